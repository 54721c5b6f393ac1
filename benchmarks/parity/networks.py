"""Networks on which both libraries must agree, drawn from a seed with NumPy.

Parameter names are those of eventsnn; each worker translates them. A `Kind` defines the random
distribution, the accuracy of the peer, and the tolerances of the results.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..workers.files import Arrays

N_IN, K = 2, 3
COUNT = 3
LAYERS = (3, 2)
# Ranges of the uniformly distributed parameters of each neuron.
_TAUS = {"tau_mem": (8.0, 14.0), "tau_syn": (3.0, 6.0)}
RANGES = {
    "LIF": _TAUS | {"threshold": (0.8, 1.2), "v_reset": (-0.3, 0.0), "bias": (-0.2, 0.6)},
    "QIF": _TAUS | {"bias": (-0.3, 0.3)},
    "EIF": _TAUS
    | {"sharpness": (0.2, 0.3), "v_rheobase": (0.8, 1.2), "v_rest": (-0.2, 0.2)}
    | {"threshold": (1.6, 2.0), "v_reset": (-0.3, 0.0), "bias": (-0.2, 0.4)},
    "Izhikevich": {"tau_syn": (3.0, 6.0), "a": (0.02, 0.1), "b": (0.18, 0.25), "c": (-65.0, -50.0)}
    | {"d": (2.0, 8.0), "threshold": (28.0, 32.0), "bias": (4.0, 12.0)},
    "ALIF": {"tau_mem": (8.0, 14.0), "tau_adapt": (15.0, 30.0), "beta": (1.0, 3.0)}
    | {"threshold": (0.8, 1.2), "bias": (1.6, 2.4)},
}


@dataclass(frozen=True)
class Kind:
    """Neuron model in a recurrent network or, with `layers`, in a feed-forward one.

    `weights` is the mean of the input weights; recurrent weights have mean 0 and a third of
    `weights` as standard deviation. With `inhibitory`, all weights are negative.

    Settings of the peer: `step` (the longest step if `adaptive`), `root`, the accuracy of a
    crossing, and with `eventprop` its own EventProp. In that case derivatives are taken only with
    respect to weights and biases: those with respect to input times are incorrect there, and there
    are none with respect to the constants, which are the same for all seeds.

    The tolerances are those of times and potentials, and of derivatives.
    """

    model: str
    weights: float
    step: float
    t_max: float = 40.0
    layers: bool = False
    inhibitory: bool = False
    adaptive: bool = False
    eventprop: bool = False
    root: float = 1e-13
    tolerances: tuple[float, float] = (1e-8, 2e-6)


LINEAR, QUADRATIC = (1e-10, 1e-8), (1e-9, 1e-7)
KINDS = {
    "LIF recurrent": Kind("LIF", 4.0, 0.05, tolerances=LINEAR),
    "LIF feed-forward": Kind("LIF", 4.0, 0.05, layers=True, tolerances=LINEAR),
    "LIF recurrent, EventProp": Kind("LIF", 4.0, 0.05, eventprop=True, tolerances=LINEAR),
    "QIF recurrent": Kind("QIF", 30.0, 0.01, tolerances=QUADRATIC),
    "QIF feed-forward": Kind("QIF", 30.0, 0.01, layers=True, tolerances=QUADRATIC),
    "EIF recurrent": Kind("EIF", 4.0, 0.05, adaptive=True),
    "Izhikevich recurrent": Kind("Izhikevich", 12.0, 0.02, adaptive=True, root=1e-10),
    "ALIF recurrent": Kind("ALIF", 0.3, 0.05, inhibitory=True, tolerances=LINEAR),
}


def connections(kind: Kind) -> np.ndarray:
    """Connection mask without self-connections; rows are sources, neurons first, by layer."""
    n = sum(LAYERS)
    if not kind.layers:
        return np.concatenate([~np.eye(n, dtype=bool), np.ones((N_IN, n), bool)])
    mask = np.zeros((n + N_IN, n), bool)
    mask[: LAYERS[0], LAYERS[0] :] = True
    mask[n:, : LAYERS[0]] = True
    return mask


def outputs(kind: Kind) -> list[int]:
    """Indices of the outputs: the last layer, or all neurons."""
    n = sum(LAYERS)
    return list(range(n - LAYERS[-1] if kind.layers else 0, n))


def make(name: str, seed: int) -> Arrays:
    """Draw a network, its input, the times of the potentials, and a functional of each result."""
    kind, rng = KINDS[name], np.random.default_rng([seed, *name.encode()])
    mask = connections(kind)
    n, size = mask.shape[1], len(outputs(kind))
    among = rng.normal(kind.weights * kind.layers, kind.weights / 3, (n, n))
    weights = np.concatenate([among, kind.weights * rng.uniform(0.7, 1.3, (N_IN, n))]) * mask
    if kind.inhibitory:
        weights = -np.abs(weights)
    drawn = np.random.default_rng(0) if kind.eventprop else rng
    neuron = {f"neuron_{key}": drawn.uniform(*ends, n) for key, ends in RANGES[kind.model].items()}
    return neuron | {
        "weights": weights,
        "in_times": rng.uniform(0.0, kind.t_max / 2, (N_IN, K)),
        "at": np.sort(rng.uniform(0.0, kind.t_max, 3)),
        "of_ttfs": rng.normal(size=size),
        "of_spikes": rng.normal(size=(size, COUNT)),
        "of_states": rng.normal(size=(size, 3)),
    }


def split(name: str, problem: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split into the parameters that derivatives are taken with respect to, and the rest."""
    keys = {"weights", "neuron_bias"}
    if not KINDS[name].eventprop:
        keys |= {"in_times"} | {key for key in problem if key.startswith("neuron_")}
    rest = {key: value for key, value in problem.items() if key not in keys}
    return {key: problem[key] for key in sorted(keys)}, rest
