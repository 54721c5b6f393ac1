"""What the laws are checked on: a new neuron model, flow or cell is tested by adding a line here.

A `Model` names a neuron of the package, its counterpart in `reference.py` and a random choice of
parameters; a `Case` is a model with a flow. `problem` draws a recurrent network and its input, as
a dictionary of arrays; `network` builds it, also from traced arrays, so that a loss may
differentiate by every entry.

`CELLS` are those of the discrete-time mode: functions of a generator and of the cell's keywords,
with parameters that make it fire now and then.
"""

import dataclasses
import math
from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import reference as ref
from numpy.typing import ArrayLike

import eventsnn as esn
from eventsnn import discrete

N, N_IN, K = 6, 2, 3
MASK = np.ones((N + N_IN, N), bool)
MASK[:N] &= ~np.eye(N, dtype=bool)
MASK[1, 4] = MASK[N, 2] = False


def _lif(rng, n):
    return {
        "threshold": rng.uniform(0.8, 1.2, n),
        "v_reset": rng.uniform(-0.3, 0.3, n),
        "v_init": rng.uniform(-0.3, 0.3, n),
        "bias": rng.uniform(-0.2, 1.4, n),
    }


def _qif(rng, n):
    return {"bias": rng.uniform(-0.3, 0.6, n), "v_init": rng.uniform(-0.5, 0.5, n)}


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    neuron: Callable
    reference: Callable
    parameters: Callable  # besides the two time constants
    scale: float  # of the weights


@dataclasses.dataclass(frozen=True)
class Case:
    model: Model
    flow: str
    options: Callable[[], dict] = dict  # of EventNetwork

    def __str__(self):
        return f"{self.model.name}-{self.flow}"


def _with_reset(kind, reset):
    def build(**parameters):
        return kind(**parameters, reset=reset)

    return build


LIF_SET = Model("lif_set", _with_reset(esn.LIF, "set"), _with_reset(ref.LIF, "set"), _lif, 0.6)
LIF_SUBTRACT = Model(
    "lif_subtract", _with_reset(esn.LIF, "subtract"), _with_reset(ref.LIF, "subtract"), _lif, 0.6
)
QIF = Model("qif", esn.QIF, ref.QIF, _qif, 9.0)
MODELS = [LIF_SET, LIF_SUBTRACT, QIF]


def constant_steps(dt0=0.5):
    return {"solver": dfx.Dopri8(), "dt0": dt0}


def tolerance(rtol):
    return {
        "solver": dfx.Dopri5(),
        "dt0": 0.1,
        "stepsize_controller": dfx.PIDController(rtol=rtol, atol=rtol * 1e-2),
    }


EXACT = [Case(model, "exact") for model in MODELS]
ODE = [Case(LIF_SET, "ode", constant_steps), Case(QIF, "ode", constant_steps)]
CASES = EXACT + ODE

RATIOS = {  # tau_mem / tau_syn
    "1": 1.0,
    "2": 2.0,
    "half": 0.5,
    "pi/3": math.pi / 3,
    "1+1e-9": 1 + 1e-9,
    "1-1e-9": 1 - 1e-9,
    "4": 4.0,
    "mixed": np.array([1.0, 2.0, 0.5, math.sqrt(3), 1 - 1e-9, 5.0]),
}


def problem(model, seed, ratio: ArrayLike = 2.0, tau_mem: ArrayLike = 10.0, until=40.0):
    """Parameters by name, with `weights` and `in_times`; every array one row or entry a neuron."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, model.scale, (N + N_IN, N))
    weights[N:] = 4 * np.abs(weights[N:])
    in_times = rng.uniform(0.0, until, (N_IN, K))  # in no order
    in_times[0, 1] = np.inf
    tau_mem = np.broadcast_to(tau_mem, (N,)).copy()
    return {
        "weights": weights,
        "in_times": in_times,
        "tau_mem": tau_mem,
        "tau_syn": tau_mem / ratio,
        **model.parameters(rng, N),
    }


def network(
    case, params, *, mask=MASK, outputs=tuple(range(N)), t_max=50.0, max_events=300, **options
):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times")}
    return esn.EventNetwork(
        neuron=case.model.neuron(**neuron),
        weights=params["weights"],
        mask=mask,
        outputs=outputs,
        t_max=t_max,
        max_events=max_events,
        **{**case.options(), **options},
    )


def reference(model, params, *, mask=MASK, t_max=50.0, query=()):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times")}
    return ref.simulate(
        model.reference(**neuron),
        params["weights"],
        params["in_times"],
        t_max,
        mask=mask,
        query=query,
        max_step=0.5,
    )


def linear(n_in, n_out, rng):
    """A layer that keeps what follows it busy."""
    layer = eqx.filter_eval_shape(eqx.nn.Linear, n_in, n_out, key=jax.random.key(0))
    weight = jnp.asarray(rng.normal(size=(n_out, n_in)) / math.sqrt(n_in))
    bias = jnp.asarray(rng.uniform(0.3, 0.9, n_out))
    return eqx.tree_at(lambda to: (to.weight, to.bias), layer, (weight, bias))


CELLS = {  # of N neurons
    "Leaky": lambda rng, **kw: discrete.Leaky(0.8, **{"reset": "zero", "graded": 0.5} | kw),
    "RLeaky": lambda rng, **kw: discrete.RLeaky(0.8, linear(N, N, rng), **kw),
    "Synaptic": lambda rng, **kw: discrete.Synaptic(0.5, 0.7, **{"reset_delay": False} | kw),
    "RSynaptic": lambda rng, **kw: discrete.RSynaptic(
        0.4, 0.6, discrete.OneToOne(-0.5), **{"threshold": 1.3} | kw
    ),
    "Lapicque": lambda rng, **kw: discrete.Lapicque(0.7, **{"threshold": 0.4} | kw),
    "Alpha": lambda rng, **kw: discrete.Alpha(0.9, 0.7, **{"threshold": 0.3} | kw),
}


def stack(n_in, rng, **options):
    """All of them, one after the other, each behind a linear layer; in the end one that never
    fires. The cells are every second layer."""
    layers = [linear(n_in, N, rng)]
    for cell in CELLS.values():
        layers += [cell(rng, **options), linear(N, N, rng)]
    return discrete.Sequential([*layers, discrete.LeakyIntegrator(0.9)])
