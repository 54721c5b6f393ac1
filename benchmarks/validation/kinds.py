"""Kinds of networks by peer and regime."""

from itertools import product

from .networks import GRID, SIGNS, Kind

PERIODS = (1.0, 3.0)
TITLES = {None: "no delays", "axonal": "axonal delays", "synaptic": "synaptic delays"}
#: Longer simulations of the models that fire rarely.
T_MAX = {"QIF": 120.0, "Theta": 80.0, "EGRU": 100.0}
#: Delays and refractoriness of the kinds of each model, for SciPy.
_ALL = ((None, False), (None, True), ("axonal", False), ("axonal", True), ("synaptic", False))
_EACH = ((None, False), ("axonal", True), ("synaptic", False))
_TWO = ((None, False), ("axonal", True))
_SOLVED = ((None, False), ("synaptic", True))
_REGIMES = {
    "LIF": _ALL,
    "LIF, equal time constants": _TWO,
    "LIF, reset by subtraction": _TWO,
    "QIF": _EACH,
    "Theta": _SOLVED,
    "ALIF": _SOLVED,
    "EIF": _SOLVED,
    "Izhikevich": _SOLVED,
    "EGRU": _SOLVED,
}


def _title(delays: str | None, refractory: bool) -> str:
    return TITLES[delays] + (", refractory" if refractory else "")


def _scipy() -> dict[str, Kind]:
    """Small networks of every model."""
    found = {}
    for model, regimes in _REGIMES.items():
        t_max = T_MAX.get(model, 40.0)
        for delays, refractory in regimes:
            sizes = (4,) if delays == "synaptic" else (6,)
            own = {"delays": delays, "periods": PERIODS if refractory else None, "t_max": t_max}
            title = f"{model}: {_title(delays, refractory)}"
            found[title] = Kind(model, sizes, spikes=round(t_max / 10), **own)
    return found


def _nest() -> dict[str, Kind]:
    """LIF networks with delays of at least one step, which are refractory for at least one step."""
    found, period = {}, PERIODS
    forms = {
        "dense, axonal delays": (0.8, (2, 10), "axonal"),
        "sparse, axonal delays": (0.15, (25, 50), "axonal"),
        "synaptic delays": (0.5, (2, 25), "synaptic"),
    }
    for sign, (title, (density, sizes, delays)) in product(SIGNS, forms.items()):
        own = {"density": density, "delays": delays, "periods": period}
        found[f"{sign}, {title}"] = Kind("LIF", sizes, (sign,), spikes=15, t_max=150.0, **own)
    own = {"density": 0.8, "delays": "axonal", "periods": (GRID, GRID)}
    title = "mixed, dense, shortest refractory period"
    return found | {title: Kind("LIF", (2, 10), ("mixed",), spikes=15, t_max=150.0, **own)}


_POTENTIALS = {"density": 1.0, "on_grid": True, "spikes": 6}
#: Without spikes, Brian2 is exact at the times of its grid.
POTENTIALS = {
    TITLES[delays]: Kind("LeakyIntegrator", (10,), delays=delays, **_POTENTIALS)
    for delays in (None, "axonal", "synaptic")
}
#: With spikes, those of Brian2 are at the times of its grid.
CONVERGENCE = {
    _title(delays, refractory): Kind(
        "LIF", (6,), delays=delays, periods=PERIODS if refractory else None, on_grid=True
    )
    for delays, refractory in ((None, False), ("axonal", True))
}
SPIKES = {"scipy": _scipy(), "nest": _nest()}
