"""Random networks for the validation, drawn from a seed with NumPy, for all simulators.

Parameter names are those of eventsnn; each worker translates them. A `Kind` defines the random
distribution. All networks of a kind have the same numbers of neurons and synapses, so that they
share a compiled program. Time is in ms. Delays and refractory periods are multiples of `GRID`,
because NEST requires it, and `GRID` is exact in binary.

Each source has at least one target, and no neuron a synapse to itself. Weights of inputs have the
mean `drive` of the model. The recurrent weights of a neuron are, in sum, about half as large as the
weight of an input for excitation, and twice as large for inhibition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..workers.files import Arrays

GRID = 0.125
#: Shortest and longest delay.
DELAYS = (0.5, 4.0)
#: Most events of one sample for which there is room.
MAX_EVENTS = 4000
SIGNS = ("excitatory", "inhibitory", "mixed")

_TAUS = {"tau_mem": (8.0, 14.0), "tau_syn": (3.0, 6.0)}
_LIF = _TAUS | {"threshold": (0.8, 1.2), "v_reset": (-0.3, 0.0), "bias": (-0.2, 1.4)}
_EQUAL = {name: ends for name, ends in _LIF.items() if name != "tau_syn"}
#: Ranges of the uniformly distributed parameters of each neuron.
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "LIF": _LIF,
    "LIF, equal time constants": _EQUAL,
    "LIF, reset by subtraction": _LIF,
    "LeakyIntegrator": _TAUS | {"bias": (-0.5, 0.5)},
    "QIF": _TAUS | {"bias": (-0.2, 0.6)},
    "Theta": {"tau_mem": (4.0, 8.0), "bias": (0.5, 2.0)},
    "ALIF": _LIF | {"tau_adapt": (10.0, 40.0), "beta": (0.1, 0.6)},
    "EIF": _TAUS
    | {"sharpness": (0.2, 0.3), "v_rheobase": (0.8, 1.2), "v_rest": (-0.2, 0.2)}
    | {"threshold": (1.8, 2.4), "v_reset": (-0.3, 0.0), "bias": (-0.2, 1.2)},
    "Izhikevich": {"tau_syn": (3.0, 6.0), "a": (0.02, 0.1), "b": (0.18, 0.25), "c": (-65.0, -50.0)}
    | {"d": (2.0, 8.0), "threshold": (28.0, 32.0), "bias": (4.0, 12.0)},
    "EGRU": {"tau_mem": (8.0, 14.0), "tau_syn": (3.0, 6.0), "threshold": (0.3, 0.5)}
    | {"bias_u": (0.0, 1.0), "bias_r": (-1.0, 1.0), "bias_z": (0.2, 0.8)},
}
#: Mean weight of the inputs, and number of receptors if there are several.
DRIVES = {"LIF, equal time constants": 1.5, "Izhikevich": 12.0, "QIF": 6.0, "Theta": 1.0}
DRIVES |= {"EGRU": 1.0}
RECEPTORS = {"EGRU": 3}


@dataclass(frozen=True)
class Kind:
    """Kind of networks: neuron model, sizes, and what the synapses and neurons are like.

    `sizes` are the numbers of neurons. `signs` are those of the recurrent weights, in turns over
    the seeds. `density` is the fraction of pairs with a synapse, `delays` None, "axonal" or
    "synaptic". `periods` are the ends of the range of the refractory periods; None: there are none.
    There are `inputs` channels with `spikes` input spikes each until `t_max`; their times are
    multiples of `GRID` if `on_grid` is true.
    """

    model: str
    sizes: tuple[int, ...]
    signs: tuple[str, ...] = SIGNS
    density: float = 0.6
    delays: str | None = None
    periods: tuple[float, float] | None = None
    on_grid: bool = False
    inputs: int = 3
    spikes: int = 4
    t_max: float = 40.0

    @property
    def receptors(self) -> int:
        return RECEPTORS.get(self.model, 1)

    @property
    def sparse(self) -> bool:
        """True if eventsnn simulates synapses in rounds, in which a spike updates its targets."""
        return self.model.startswith(("LIF", "QIF")) and self.delays != "synaptic"


def draw(kind: Kind, n: int, seeds: Sequence[int]) -> Arrays:
    """Draw networks of `n` neurons, one per seed; the first axis of all arrays is the network."""
    drawn = [_draw(kind, n, seed) for seed in seeds]
    return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


def _draw(kind: Kind, n: int, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, n, *repr(kind).encode()])
    mask = _connections(rng, kind, n)
    found: dict[str, Any] = {
        f"neuron_{name}": rng.uniform(*ends, n) for name, ends in RANGES[kind.model].items()
    }
    sign = kind.signs[seed % len(kind.signs)]
    weights = [_weights(rng, kind, mask, sign) for _ in range(kind.receptors)]
    found |= {"mask": mask, "weights": np.concatenate(weights, axis=1)}
    found["in_times"] = _input_times(rng, kind)
    if kind.delays is not None:
        shape = mask.shape[:1] if kind.delays == "axonal" else mask.shape
        found["delays"] = _on_grid(rng, DELAYS, shape)
        found["delays"][0] = DELAYS[0]  # the shortest delay is a constant of the compiled program
    if kind.periods is not None:
        found["period"] = _on_grid(rng, kind.periods, (n,))
    return found


def _connections(rng: np.random.Generator, kind: Kind, n: int) -> np.ndarray:
    """Mask of a fixed number of synapses, at least one per source; rows are sources."""
    rows = n + kind.inputs
    allowed = np.concatenate([~np.eye(n, dtype=bool), np.ones((kind.inputs, n), bool)])
    order = np.where(allowed, rng.random(allowed.shape), np.inf)
    first = np.argmin(order, axis=1)
    order[np.arange(rows), first] = -1.0
    count = max(rows, round(kind.density * np.count_nonzero(allowed)))
    mask = np.zeros(allowed.shape, bool)
    mask.ravel()[np.argsort(order, axis=None)[:count]] = True
    return mask


def _weights(rng: np.random.Generator, kind: Kind, mask: np.ndarray, sign: str) -> np.ndarray:
    """Weights of one receptor; an excitatory network is not driven by itself without end."""
    n, drive = mask.shape[1], DRIVES.get(kind.model, 3.0)
    each = drive / max(1.0, kind.density * n)
    size = each * rng.uniform(0.5, 1.5, (n, n))
    factors = {
        "excitatory": 0.5,
        "inhibitory": -2.0,
        "mixed": 1.5 * rng.choice([-1.0, 1.0], (n, 1)),
    }
    size *= factors[sign]
    inputs = drive * rng.uniform(0.7, 1.3, (len(mask) - n, n))
    return np.concatenate([size, inputs]) * mask


def _input_times(rng: np.random.Generator, kind: Kind) -> np.ndarray:
    """Times of shape (inputs, spikes); the same time does not occur twice in a channel."""
    if not kind.on_grid:
        return np.sort(rng.uniform(0.5, kind.t_max, (kind.inputs, kind.spikes)))
    steps = range(4, round(kind.t_max / GRID))
    rows = [rng.choice(steps, kind.spikes, replace=False) for _ in range(kind.inputs)]
    return GRID * np.sort(rows, axis=1)


def _on_grid(rng: np.random.Generator, ends: tuple[float, float], shape: Any) -> np.ndarray:
    low, high = (round(end / GRID) for end in ends)
    return GRID * rng.integers(low, high + 1, shape)
