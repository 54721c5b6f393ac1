"""Small cases in which the peer is incorrect, with closed-form reference values from `math` alone.

Unless stated otherwise the neurons are LIF with `tau_mem` = 2 `tau_syn` = 10 ms, threshold 1, reset
and initial potential 0, no bias, up to 60 ms. After arrivals of weight w at times s the membrane
potential is V = A x - B x^2 in x = exp(-t/10), where A is the sum of w exp(s/10) and B the sum of w
exp(2 s/10).

`Case.truth` is a list of numbers, or a string that describes the expected result.
"""

from math import exp, inf, isfinite, log, sqrt
from typing import NamedTuple

TAU = 10.0
T_MAX = 60.0
REFUSED = "refused"
CUT_SHORT, NOT_FINITE = "cut short, with a status", "not finite, with a status"

Answer = list[float] | str


class Case(NamedTuple):
    """Case, computed by a function of its name in both workers; `of` describes the numbers."""

    name: str
    text: str
    of: str
    truth: Answer


def crossing(weights: list[float], times: list[float]) -> tuple[float, list[float], list[float]]:
    """First crossing after all arrivals, with its derivatives with respect to weights and times."""
    e = [exp(s / TAU) for s in times]
    a = sum(w * f for w, f in zip(weights, e, strict=True))
    b = sum(w * f * f for w, f in zip(weights, e, strict=True))
    x = (a + sqrt(a * a - 4 * b)) / (2 * b)
    speed = (2 * b * x * x - a * x) / TAU
    by_weight = [-(f * x - f * f * x * x) / speed for f in e]
    changes = [(f * x - 2 * f * f * x * x) / TAU / speed for f in e]
    by_time = [-w * change for w, change in zip(weights, changes, strict=True)]
    return -TAU * log(x), by_weight, by_time


def chain(weights: list[list[float]], late: float) -> list[float]:
    """Derivatives of the second neuron's first spike with respect to the two input times.

    The first channel drives the first neuron, which drives the second; the second channel, with
    input time `late`, also drives the second.
    """
    first, _, _ = crossing([weights[2][0]], [1.0])
    alone, _, _ = crossing([weights[0][1]], [first])
    if late > alone:
        return [1.0, 0.0]
    return crossing([weights[0][1], weights[3][1]], [first, late])[2]


# Rows are sources, neurons first.
INHIBITING = [[0.0, -60.0], [-60.0, 0.0], [6.0, 6.0]]
APART = [[0.0, 0.0], [0.0, 0.0], [6.0, 6.0]]
CHAIN = [[0.0, 5.0], [0.0, 0.0], [6.0, 0.0], [0.0, 3.0]]
ONE = [[0.0], [8.0]]
GRAZING, GRAZING_TAU = 4.005, 8.0
WEAK = [[0.0], [3.0]]
PAIR = [[0.0, 0.0], [0.0, 0.0], [8.0, 8.0], [8.0, 8.0]]
TWO = [[0.0, 0.0], [0.0, 0.0], [8.0, 9.0]]
DELAYED = [[0.0, 6.0], [0.0, 0.0], [8.0, 0.0]]
DELAYS = [[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]
BIASES = [2.0, 3.0]  # neurons that fire spontaneously, with different periods
PERIODS = [TAU * log(b / (b - 1)) for b in BIASES]
REFRACTORY_PERIOD = 3.3
EARLY, LATE = 5.0, 20.0
OBSERVATION_TIMES = [2.0, 9.0, 5.0]
# Two samples with two channels: one has one spike, the other none or nine.
LIMIT = [[[1.0] + [inf] * 8, [inf] * 9], [[1.0] + [inf] * 8, [0.1 * k for k in range(9)]]]

_six, _eight = (crossing([w], [1.0]) for w in (6.0, 8.0))
_eight_x = exp(-(_eight[0] - 1.0) / TAU)

TRUTHS: dict[str, Answer] = {
    "tie": [_six[0], _six[0]],
    "tie_gradient": [_six[1][0], 0.0],
    "peak": [1 - GRAZING_TAU * log((1 + sqrt(1 - 4 / GRAZING)) / 2)],
    "defaults": [_eight[0], _eight[0]],
    "eventprop_early": chain(CHAIN, EARLY),
    "eventprop_late": chain(CHAIN, LATE),
    "threshold": [-_eight[1][0] / (_eight_x - _eight_x**2)],
    "constants": [_eight[0] - 1.0],
    "mask": [_eight[0]] * 4,
    "max_spikes": [k * period for period in PERIODS for k in (1, 2, 3)],
    "order": [3 * (exp((1 - t) / TAU) - exp((1 - t) / TAU * 2)) for t in OBSERVATION_TIMES],
    **dict.fromkeys(("beyond", "minus_infinity", "not_a_number", "negative"), REFUSED),
    "limit": [_eight[0]],
    "record": CUT_SHORT,
    "nan_weight": NOT_FINITE,
    "compilations": [1.0],
    "saved": [_eight[0]],
    "pulse": [1.0],
    "refractory": [k * PERIODS[0] + (k - 1) * REFRACTORY_PERIOD for k in (1, 2, 3)],
    "delayed_weights": [_six[1][0], _eight[1][0]],
    "delays": [1.0, 1.0],
    "delayed_mask": [0.0],
}
# Setting of each case, and after the bar the quantity that is compared.
TEXTS = {
    "tie": "weights 6 from one input at 1, -60 on each other | first spikes",
    "tie_gradient": "two equal unconnected neurons | d first spike of the first / d both weights",
    "peak": "tau_mem 8, weight 4.005 (its peak is 0.1 % above threshold), step 1 | first spike",
    "defaults": "weight 8, nothing set; the same with step 0.1 | first spikes",
    "eventprop_early": "EventProp, channel at 1 -> 0 (6), 0 -> 1 (5), channel at 5 -> 1 (3)"
    " | d first spike of 1 / d input times",
    "eventprop_late": "the same, the second input at 20 | d first spike of 1 / d input times",
    "threshold": "weight 8, threshold as a leaf, EventProp | d first spike / d threshold",
    "constants": "weight 8, trained time constants (PLIF)"
    " | tau_mem d/d tau_mem + tau_syn d/d tau_syn of the first spike",
    "mask": "two channels, two neurons, weights 8, no mask; one channel at a time | first spikes",
    "max_spikes": "biases 2 and 3, no input | first three spikes of the first, of the second",
    "order": "weight 3 at 1; requested times 2, 9, 5 | potentials",
    "beyond": "the same, 20 ms long, requested time 30 | potential",
    "minus_infinity": "inputs at -inf and at 1, weights 8 and 9 | first spikes",
    "not_a_number": "inputs at NaN and at 1 | first spikes",
    "negative": "inputs at -5 and at 1 | first spikes",
    "limit": "weight 8 at 1; second sample with nine more of weight 0.1 before; at most 8 events"
    " | first spike in the first sample",
    "record": "bias 2, at most 6 events of 8 | all spikes",
    "nan_weight": "weights NaN and 9 | first spikes",
    "compilations": "three networks of one shape, one jitted function | traces",
    "saved": "weight 8, Tsit5, step 0.5; saved, loaded | first spike",
    "pulse": "ALIF (no synapse), threshold 1, a pulse of 1.5 at 1 | first spike",
    "refractory": "bias 2, refractory time 3.3; Tsit5, step 0.1 | first three spikes",
    "delayed_weights": "channel at 1 -> 0 (8, delay 1), 0 -> 1 (6, delay 2); EventProp"
    " | d first spike of 1 / d weights: 0 -> 1, channel -> 0",
    "delays": "the same | d first spike of 1 / d delays: 0 -> 1, channel -> 0",
    "delayed_mask": "the same by autodiff, channel -> 1 masked"
    " | d first spike of 1 / d weight: channel -> 1",
}
CASES = [Case(name, *TEXTS[name].split(" | ", 1), truth=TRUTHS[name]) for name in TRUTHS]


def same(found: Answer, truth: Answer, tolerance: float) -> bool:
    """Compare a result with the reference: equal strings, or numbers within the tolerance."""
    if isinstance(truth, str) or isinstance(found, str):
        return found == truth
    return len(found) == len(truth) and all(
        isfinite(a) and abs(a - b) <= tolerance * max(1.0, abs(b))
        for a, b in zip(found, truth, strict=True)
    )
