"""Bad input to every public callable: one-line errors with argument, value and expectation."""

import inspect
import pathlib
import re
import traceback
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import connect, data, discrete, encoders, losses, plots, surrogates, train
from helpers.bad_calls import NO_ROW, ROWS

PACKAGE = pathlib.Path(esn.__file__).parent
#: Modules whose public names are their own definitions, or their exports.
DEFINING = {
    "init": esn.init,
    **{f"data.{name}": module for name, module in vars(data).items() if inspect.ismodule(module)},
}
EXPORTING = {
    **{"": esn, "losses": losses, "encoders": encoders, "plots": plots},
    **{"connect": connect, "discrete": discrete, "surrogates": surrogates, "train": train},
}
SHORT = ("losses", "encoders")  # table rows have the bare name


def public():
    """Names of all public callables, as in the table."""
    for place, module in (*EXPORTING.items(), *DEFINING.items()):
        for name, value in vars(module).items():
            ours = getattr(value, "__module__", "").startswith("eventsnn")
            if name.startswith("_") or not callable(value) or isinstance(value, types.ModuleType):
                continue
            if ours and (place in EXPORTING or value.__module__ == module.__name__):
                yield name if place in ("", *SHORT) else f"{place}.{name}"
    layers = esn.AbstractLayer, esn.EventLinear, esn.EventConv2d, esn.EventSequential
    for kind in (esn.EventNetwork, esn.Discretised, esn.Synapses, *layers):
        methods = (name for name, value in vars(kind).items() if inspect.isfunction(value))
        yield from (f"{kind.__name__}.{name}" for name in methods if not name.startswith("_"))


def test_every_public_callable_has_a_row():
    assert set(public()) - NO_ROW <= set(ROWS)
    assert not NO_ROW - (set(public()) - set(ROWS))


@pytest.mark.parametrize("name", ROWS)
def test_every_argument_is_in_the_row(name):
    arguments = set(inspect.signature(ROWS[name].call).parameters)
    assert arguments == set(ROWS[name].args)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.try_it])
def test_the_good_values_are_accepted(name):
    row = ROWS[name]
    good = {k: arg.good for k, arg in row.args.items()}
    if row.try_it == "called":
        row.call(**good)
    else:
        eqx.filter_eval_shape(lambda: row.call(**good))


def answer(row, argument, value):
    """Describe the error in the response to a bad value; None if it is as required."""
    good = {name: arg.good for name, arg in row.args.items()}
    try:
        row.call(**good | {argument: value})
    except (ValueError, TypeError) as error:
        where, text = traceback.extract_tb(error.__traceback__)[-1].filename, str(error)
        if not pathlib.Path(where).is_relative_to(PACKAGE):
            return f"raised in {where}: {text[:80]!r}"
        if "\n" in text:
            return f"several lines: {text[:80]!r}"
        found = re.search(rf"\b{argument}\b.* (got|must|need).*, got (.+)", text)
        if not found or not shows(found.group(2), value):
            return f"not clear: {text!r}"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]!r}"
    return "accepted"


def shows(text, value):
    """Check if a message contains a value that has at most a few characters."""
    if isinstance(value, bool | str | bytes | None):
        return repr(value) in text or "()" in text or "bool" in text
    if isinstance(value, int | float) and abs(value) < 1e9:
        return f"{value:g}" in text or "()" in text
    return True


@pytest.mark.parametrize("name", ROWS)
def test_bad_values_are_refused_by_name(name):
    row = ROWS[name]
    wrong = [
        f"{argument}={np.array2string(np.asarray(value, object), threshold=4)}: {found}"
        for argument, arg in row.args.items()
        for value in arg.bad
        if (found := answer(row, argument, value)) is not None
    ]
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------ what only shows later


def test_weights_of_16_bits_are_refused_where_they_would_be_wrong():
    net = esn.EventNetwork(esn.LIF(10.0, 5.0), np.ones((2, 1)), outputs=(0,), t_max=9.0)
    for dtype in (jnp.float16, jnp.bfloat16):
        short = eqx.tree_at(lambda net: net.weights, net, net.weights.astype(dtype))
        expected = f"^weights must be float32 or float64 in the event mode, got {jnp.dtype(dtype)}"
        with pytest.raises(ValueError, match=expected):
            short.ttfs(np.ones((1, 1)))


def test_a_flow_of_another_model_is_refused_in_a_mixture():
    mixed = esn.Populations([(esn.LIF(10.0, 5.0), 1), (esn.QIF(10.0, 5.0), 1)])
    with pytest.raises(ValueError, match=r"^solver must be a flow for QIF neurons, got ExactLIF"):
        esn.EventNetwork(mixed, np.ones((2, 2)), outputs=(0,), t_max=9.0, solver=esn.ExactLIF())


@pytest.mark.parametrize("kind", [esn.LIF, esn.ALIF, esn.EIF])
def test_parameters_of_two_lengths_are_refused(kind):
    taus = [10.0, 5.0, 20.0, 0.1][: 4 if kind is esn.ALIF else 2]
    with pytest.raises(ValueError, match=r"^threshold must .* shape \(3,\), as v_reset, got .*2"):
        kind(*taus, threshold=np.ones(2), v_reset=np.zeros(3))


def test_long_values_are_shortened():
    long: Any = (10**5000, "x" * 10**5, ["x"] * 10**5, np.ones(10**5) * 1j)
    for value in long:
        with pytest.raises(ValueError, match=r"^bias must be") as error:
            esn.LIF(10.0, 5.0, bias=value)
        assert len(str(error.value)) < 200


def test_known_values_are_refused_under_jit():
    with pytest.raises(ValueError, match=r"^tau_mem must be > 0, got -1\.0"):
        jax.eval_shape(lambda: esn.LIF(-1.0, 5.0))
    jax.eval_shape(lambda tau: esn.LIF(tau, 5.0), 1.0)  # reported by a status of the run
