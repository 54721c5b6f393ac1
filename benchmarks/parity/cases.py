"""Small cases in which the peer is incorrect, with closed-form reference values from `math` alone.

Unless stated otherwise the neurons are LIF with `tau_mem` = 2 `tau_syn` = 10 ms, threshold 1, reset
and initial potential 0, no bias, up to 60 ms. After arrivals of weight w at times s the membrane
potential is V = A x - B x^2 in x = exp(-t/10), where A is the sum of w exp(s/10) and B the sum of w
exp(2 s/10).

`Case.truth` is a list of numbers, or a string that describes the expected result.
"""

from dataclasses import dataclass
from math import exp, inf, isfinite, log, sqrt

TAU = 10.0
T_MAX = 60.0
REFUSED = "refused"
CUT_SHORT, NOT_FINITE = "cut short, with a status", "not finite, with a status"

Answer = list[float] | str


@dataclass(frozen=True)
class Case:
    """Case: `name` is a method of both workers; `of` describes the numbers."""

    name: str
    text: str
    truth: Answer
    of: str = "first spike"


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


def peak(weight: float, tau: float) -> float:
    """First crossing of threshold 1 after one arrival at 0, for a different time constant."""
    return -tau * log((1 + sqrt(1 - 4 / weight)) / 2)


def potential(weight: float, t: float) -> float:
    """Membrane potential at time t after one arrival, without a spike."""
    return weight * (exp(-t / TAU) - exp(-2 * t / TAU))


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
REST = 3.3
EARLY, LATE = 5.0, 20.0
LOOKS = [2.0, 9.0, 5.0]
# Two samples with two channels: one has one spike, the other none or nine.
LIMIT = [[[1.0] + [inf] * 8, [inf] * 9], [[1.0] + [inf] * 8, [0.1 * k for k in range(9)]]]

_six, _eight = (crossing([w], [1.0]) for w in (6.0, 8.0))
_eight_x = exp(-(_eight[0] - 1.0) / TAU)

CASES = [
    Case("tie", "weights 6 from one input at 1, -60 on each other", [_six[0]] * 2, "first spikes"),
    Case(
        "tie_gradient",
        "two equal neurons without a connection, weights 6",
        [_six[1][0], 0.0],
        "d first spike of the first / d both weights",
    ),
    Case(
        "peak",
        "tau_mem 8, tau_syn 4, weight 4.005 (its peak is 0.1 % above threshold), Tsit5, step 1",
        [1 + peak(GRAZING, GRAZING_TAU)],
    ),
    Case("defaults", "weight 8, nothing set; with step 0.1", [_eight[0]] * 2, "first spikes"),
    Case(
        "eventprop_early",
        "channel at 1 -> 0 (6), 0 -> 1 (5), channel at 5 -> 1 (3); EventProp",
        chain(CHAIN, EARLY),
        "d first spike of 1 / d input times",
    ),
    Case(
        "eventprop_late",
        "the same, the second input at 20, long after that spike",
        chain(CHAIN, LATE),
        "d first spike of 1 / d input times",
    ),
    Case(
        "threshold",
        "weight 8; a model whose threshold is a leaf; EventProp",
        [-_eight[1][0] / (_eight_x - _eight_x**2)],
        "d first spike / d threshold",
    ),
    Case(
        "constants",
        "weight 8; the model whose time constants learn (PLIF)",
        [_eight[0] - 1.0],
        "tau_mem d/d tau_mem + tau_syn d/d tau_syn of the first spike",
    ),
    Case(
        "mask",
        "two channels and two neurons, weights 8, no mask given; one channel at a time",
        [_eight[0]] * 4,
        "first spikes of both, twice",
    ),
    Case(
        "max_spikes",
        "biases 2 and 3, no input; the first 3 spikes",
        [k * period for period in PERIODS for k in (1, 2, 3)],
        "spikes of the first, of the second",
    ),
    Case(
        "order",
        "weight 3 at 1; requested times 2, 9, 5",
        [potential(3.0, t - 1.0) for t in LOOKS],
        "potentials",
    ),
    Case("beyond", "the same, 20 ms long, requested time 30", REFUSED, "potential"),
    Case("minus_infinity", "inputs at -inf and at 1, weights 8 and 9", REFUSED, "first spikes"),
    Case("not_a_number", "inputs at NaN and at 1", REFUSED, "first spikes"),
    Case("negative", "inputs at -5 and at 1", REFUSED, "first spikes"),
    Case(
        "limit",
        "weight 8 at 1; in the second sample nine more of weight 0.1 before; at most 8 events",
        [_eight[0]],
        "first spike in the first sample",
    ),
    Case("record", "bias 2, at most 6 events of 8", CUT_SHORT, "all spikes"),
    Case("nan_weight", "weights NaN and 9", NOT_FINITE, "first spikes"),
    Case("compilations", "three networks of one shape, one jitted function", [1.0], "traces"),
    Case("saved", "weight 8, Tsit5, step 0.5; saved, loaded", [_eight[0]]),
    Case("pulse", "ALIF (no synapse), threshold 1, a pulse of 1.5 at 1", [1.0]),
    Case(
        "refractory",
        "bias 2, refractory time 3.3; Tsit5, step 0.1",
        [k * PERIODS[0] + (k - 1) * REST for k in (1, 2, 3)],
        "first three spikes",
    ),
    Case(
        "delayed_weights",
        "channel at 1 -> 0 (8, delay 1), 0 -> 1 (6, delay 2); EventProp",
        [_six[1][0], _eight[1][0]],
        "d first spike of 1 / d weights: 0 -> 1, channel -> 0",
    ),
    Case("delays", "the same", [1.0, 1.0], "d first spike of 1 / d delays: 0 -> 1, channel -> 0"),
    Case(
        "delayed_mask",
        "the same by autodiff; channel -> 1 is masked",
        [0.0],
        "d first spike of 1 / d weight: channel -> 1",
    ),
]


def same(found: Answer, truth: Answer, tolerance: float) -> bool:
    """Compare a result with the reference: equal strings, or numbers within the tolerance."""
    if isinstance(truth, str) or isinstance(found, str):
        return found == truth
    return len(found) == len(truth) and all(
        isfinite(a) and abs(a - b) <= tolerance * max(1.0, abs(b))
        for a, b in zip(found, truth, strict=True)
    )
