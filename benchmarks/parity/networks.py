"""Networks on which both libraries must agree, drawn from a seed with NumPy.

Parameter names are those of eventsnn; each worker translates them. A `Kind` defines the random
distribution, the accuracy of the peer, and the tolerances of the results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

N_IN, K = 2, 3
COUNT = 3
LAYERS = (3, 2)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """Neuron model in a recurrent network or, with `layers`, in a feed-forward one.

    `weights` is the mean of the input weights; recurrent weights have mean 0 and a third of
    `weights` as standard deviation. With `inhibitory`, all weights are negative.

    Settings of the peer: `step` (the longest step if `adaptive`), `root`, the accuracy of a
    crossing, and with `eventprop` its own EventProp. In that case derivatives are taken only with
    respect to weights and biases: those with respect to input times are incorrect there, and there
    are none with respect to the constants, which are the same for all seeds.

    The tolerances are those of times and potentials, and of derivatives; see `parity.difference`.
    """

    model: str
    draw: Callable[[np.random.Generator, int], Arrays]
    weights: float
    step: float
    t_max: float = 40.0
    layers: bool = False
    inhibitory: bool = False
    adaptive: bool = False
    eventprop: bool = False
    root: float = 1e-13
    tolerances: tuple[float, float] = (1e-8, 2e-6)


def _constants(rng: np.random.Generator, n: int) -> Arrays:
    return {"tau_mem": rng.uniform(8.0, 14.0, n), "tau_syn": rng.uniform(3.0, 6.0, n)}


def _lif(rng: np.random.Generator, n: int) -> Arrays:
    return _constants(rng, n) | {
        "threshold": rng.uniform(0.8, 1.2, n),
        "v_reset": rng.uniform(-0.3, 0.0, n),
        "bias": rng.uniform(-0.2, 0.6, n),
    }


def _qif(rng: np.random.Generator, n: int) -> Arrays:
    return _constants(rng, n) | {"bias": rng.uniform(-0.3, 0.3, n)}


def _eif(rng: np.random.Generator, n: int) -> Arrays:
    return _constants(rng, n) | {
        "sharpness": rng.uniform(0.2, 0.3, n),
        "v_rheobase": rng.uniform(0.8, 1.2, n),
        "v_rest": rng.uniform(-0.2, 0.2, n),
        "threshold": rng.uniform(1.6, 2.0, n),
        "v_reset": rng.uniform(-0.3, 0.0, n),
        "bias": rng.uniform(-0.2, 0.4, n),
    }


def _izhikevich(rng: np.random.Generator, n: int) -> Arrays:
    return {
        "tau_syn": rng.uniform(3.0, 6.0, n),
        "a": rng.uniform(0.02, 0.1, n),
        "b": rng.uniform(0.18, 0.25, n),
        "c": rng.uniform(-65.0, -50.0, n),
        "d": rng.uniform(2.0, 8.0, n),
        "threshold": rng.uniform(28.0, 32.0, n),
        "bias": rng.uniform(4.0, 12.0, n),
    }


def _alif(rng: np.random.Generator, n: int) -> Arrays:
    return {
        "tau_mem": rng.uniform(8.0, 14.0, n),
        "tau_adapt": rng.uniform(15.0, 30.0, n),
        "beta": rng.uniform(1.0, 3.0, n),
        "threshold": rng.uniform(0.8, 1.2, n),
        "bias": rng.uniform(1.6, 2.4, n),
    }


LINEAR, QUADRATIC = (1e-10, 1e-8), (1e-9, 1e-7)
KINDS = {
    "LIF recurrent": Kind("LIF", _lif, 4.0, 0.05, tolerances=LINEAR),
    "LIF feed-forward": Kind("LIF", _lif, 4.0, 0.05, layers=True, tolerances=LINEAR),
    "LIF recurrent, EventProp": Kind("LIF", _lif, 4.0, 0.05, eventprop=True, tolerances=LINEAR),
    "QIF recurrent": Kind("QIF", _qif, 30.0, 0.01, tolerances=QUADRATIC),
    "QIF feed-forward": Kind("QIF", _qif, 30.0, 0.01, layers=True, tolerances=QUADRATIC),
    "EIF recurrent": Kind("EIF", _eif, 4.0, 0.05, adaptive=True),
    "Izhikevich recurrent": Kind("Izhikevich", _izhikevich, 12.0, 0.02, adaptive=True, root=1e-10),
    "ALIF recurrent": Kind("ALIF", _alif, 0.3, 0.05, inhibitory=True, tolerances=LINEAR),
}


def connections(kind: Kind) -> np.ndarray:
    """Connection mask without self-connections; rows are sources, neurons first, numbered by
    layer."""
    n = sum(LAYERS)
    mask = np.zeros((n + N_IN, n), bool)
    if kind.layers:
        mask[: LAYERS[0], LAYERS[0] :] = True
        mask[n:, : LAYERS[0]] = True
    else:
        mask[:n] = ~np.eye(n, dtype=bool)
        mask[n:] = True
    return mask


def outputs(kind: Kind) -> list[int]:
    """Indices of the outputs: the last layer, or all neurons."""
    n = sum(LAYERS)
    return list(range(n - LAYERS[-1] if kind.layers else 0, n))


def make(name: str, seed: int) -> Arrays:
    """Draw one network with its input, the times of the potentials, and a functional of each
    result."""
    kind = KINDS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    mask = connections(kind)
    n = mask.shape[1]
    among = rng.normal(0.0, kind.weights / 3, (n, n))
    if kind.layers:
        among = kind.weights + among
    weights = np.concatenate([among, kind.weights * rng.uniform(0.7, 1.3, (N_IN, n))]) * mask
    if kind.inhibitory:
        weights = -np.abs(weights)
    size = len(outputs(kind))
    neuron = kind.draw(np.random.default_rng(0) if kind.eventprop else rng, n)
    return {
        "weights": weights,
        "in_times": rng.uniform(0.0, kind.t_max / 2, (N_IN, K)),
        "at": np.sort(rng.uniform(0.0, kind.t_max, 3)),
        "of_ttfs": rng.normal(size=size),
        "of_spikes": rng.normal(size=(size, COUNT)),
        "of_states": rng.normal(size=(size, 3)),
    } | {f"neuron_{key}": value for key, value in neuron.items()}


def split(name: str, problem: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the parameters into those that derivatives are taken with respect to, and the rest."""
    keys = {"weights", "neuron_bias"}
    if not KINDS[name].eventprop:
        keys |= {"in_times"} | {key for key in problem if key.startswith("neuron_")}
    return {k: problem[k] for k in sorted(keys)}, {
        k: v for k, v in problem.items() if k not in keys
    }


def with_derivatives(ask: Callable[[Any, Any], Any], of: Any, rest: Any) -> dict[str, Any]:
    """Results of `ask(of, rest)`, and derivatives of a functional of each with respect to `of`.

    Missing spikes (inf) are excluded from the functional.
    """
    found, transpose = jax.vjp(lambda of: ask(of, rest), of)
    out = dict(found)
    for name, value in found.items():
        part = jnp.where(jnp.isfinite(value), rest[f"of_{name}"], 0.0)
        zeros = jax.tree.map(jnp.zeros_like, found)
        (derivatives,) = transpose(zeros | {name: part})
        out |= {f"d {name} / d {key}": d for key, d in derivatives.items()}
    return out
