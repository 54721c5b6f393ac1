"""Balanced random network of LIF neurons, drawn from a seed with NumPy, for all simulators.

80 % of the neurons are excitatory, the others inhibitory (Brunel, J. Comput. Neurosci. 8:183,
2000). Each neuron receives synapses from `inputs` distinct other neurons; 80 % of them are
excitatory. All delays are 1 ms or, for a network with synaptic delays, multiples of GRID from 1 ms
to a given number, all with the same probability. A constant bias replaces the Poisson input, so
that all simulators compute the same spikes. With V in mV and I, the synaptic current times the
resistance, in mV,

    tau_mem V' = -V + I + bias,    tau_syn I' = -I

and a spike adds its weight to I. Weights are normally distributed, with a standard deviation of
10 % of their mean: w for excitation and -8 w for inhibition. At RATE spikes per ms and neuron,
independent Poisson inputs with the weight w or -8 w would give V without threshold the mean MEAN
and the standard deviation SD. These three numbers determine w, proportional to 1 / sqrt(inputs),
and the mean of the biases. Time is in ms.
"""

from typing import Any

import numpy as np

from ..workers.files import Arrays

TAU_MEM, TAU_SYN, THRESHOLD, V_RESET, PERIOD, DELAY = 20.0, 2.0, 15.0, 5.0, 2.0, 1.0
MEAN, SD, RATE = 6.0, 8.0, 0.008
INHIBITION, WEIGHT_SPREAD, BIAS_SPREAD = 8.0, 0.1, 2.0
#: Unit of synaptic delays, which NEST needs: its steps are not longer.
GRID = DELAY / 4
#: In-degree: a tenth of the neurons, at most this number.
MOST_INPUTS = 1000


def draw(n: int, seed: int, inputs: int | None = None, longest: int | None = None) -> Arrays:
    """Draw a network: `sources` and `weights` of shape (n, inputs), `bias` and `v_init` (n,).

    Row i holds the inputs of neuron i, excitatory ones first, each kind in ascending order. With
    `longest`, there are also synaptic `delays` of shape (n, inputs), up to this number.
    """
    k = min(n // 10, MOST_INPUTS) if inputs is None else inputs
    kinds = (0, 4 * n // 5, 4 * k // 5), (4 * n // 5, n, k - 4 * k // 5)
    rng = np.random.default_rng(seed)
    sources = np.empty((n, k), np.int32)
    for i, row in enumerate(sources):
        row[:] = np.concatenate([others(rng, i, *kind) for kind in kinds])
    (*_, exciting), (*_, inhibiting) = kinds
    weight = excitation(exciting, inhibiting)
    means = np.repeat([weight, -INHIBITION * weight], [exciting, inhibiting])
    weights = rng.standard_normal((n, k), np.float32)
    weights *= WEIGHT_SPREAD
    weights += 1.0
    weights *= means.astype(np.float32)
    drive = MEAN - RATE * TAU_SYN * np.sum(means)
    network = {
        "sources": sources,
        "weights": weights,
        "bias": rng.normal(drive, BIAS_SPREAD, n),
        "v_init": rng.uniform(V_RESET, THRESHOLD, n),
    }
    if longest is not None:
        most = round((longest - DELAY) / GRID)
        network["delays"] = DELAY + GRID * rng.integers(0, most, (n, k), endpoint=True)
    return network


def others(rng: np.random.Generator, i: int, first: int, end: int, count: int) -> np.ndarray:
    """Draw distinct neurons from `first` to `end - 1`, without neuron `i`, in ascending order."""
    within = first <= i < end
    drawn = first + rng.choice(end - first - within, count, replace=False, shuffle=False)
    if within:
        drawn += drawn >= i
    return np.sort(drawn)


def excitation(exciting: int, inhibiting: int) -> float:
    """Mean excitatory weight in mV, from the variance of shot noise behind both exponentials."""
    per_weight = RATE * TAU_SYN**2 * (exciting + INHIBITION**2 * inhibiting)
    return SD * float(np.sqrt(2 * (TAU_MEM + TAU_SYN) / per_weight))


def synapses(network: Arrays) -> dict[str, Any]:
    """Return `sources`, `targets` and `weights` with one entry per synapse, by target; `delays`.

    If all delays are equal, there is one for all synapses.
    """
    n, k = network["sources"].shape
    return {
        "sources": network["sources"].ravel(),
        "targets": np.repeat(np.arange(n, dtype=np.int32), k),
        "weights": network["weights"].ravel().astype(np.float64),
        "delays": network["delays"].ravel() if "delays" in network else DELAY,
    }
