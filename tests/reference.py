"""A slow, independent simulator to check the package against.

It integrates the differential equations of the models as their papers state them, with scipy's
DOP853 and event functions, restarted at every event. It knows none of the package's formulas: no
closed form, no projective coordinates, no certified root finder. Plain numpy and scipy.

LIF:  tau_mem V' = -V + I + bias,  tau_syn I' = -I, and a spike as V rises to threshold
QIF:  tau_mem V' = V (V - 1) + I + bias, integrated as the phase p = atan(V/pi)/pi + 1/2, and a
      spike at p = 1, which goes on at p = 0
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

RTOL, ATOL = 1e-12, 1e-13
# A source that arrives has an index n + channel; a neuron has its own.


@dataclasses.dataclass(frozen=True)
class LIF:
    tau_mem: Any
    tau_syn: Any
    threshold: Any = 1.0
    v_reset: Any = 0.0
    bias: Any = 0.0
    reset: str = "set"
    v_init: Any = None

    def start(self, n):
        v = self.v_reset if self.v_init is None else self.v_init
        return np.broadcast_to(np.asarray(v, float), (n,)).copy()

    def speed(self, v, current):
        return (-v + current + self.bias) / self.tau_mem

    def gap(self, v):
        return v - self.threshold

    def jump(self, v, i):
        n = v.size
        if self.reset == "set":
            v[i] = np.broadcast_to(self.v_reset, (n,))[i]
        else:
            v[i] -= np.broadcast_to(self.threshold, (n,))[i]

    def observe(self, v):
        return v


@dataclasses.dataclass(frozen=True)
class QIF:
    tau_mem: Any
    tau_syn: Any
    bias: Any = 0.0
    v_init: Any = 0.0

    def start(self, n):
        v = np.broadcast_to(np.asarray(self.v_init, float), (n,))
        return np.arctan(v / np.pi) / np.pi + 0.5

    def speed(self, p, current):
        c, s = np.cos(np.pi * p), np.sin(np.pi * p)
        drive = (current + self.bias) / np.pi**2
        return (c * c + c * s / np.pi + s * s * drive) / self.tau_mem

    def gap(self, p):
        return p - 1.0

    def jump(self, p, i):
        p[i] = 0.0

    def observe(self, p):
        return -np.pi / np.tan(np.pi * p)


@dataclasses.dataclass
class Record:
    times: np.ndarray  # of every event, neurons and inputs
    sources: np.ndarray
    seen: np.ndarray  # (n, n_times), V at the query times

    def spikes(self, i):
        return self.times[self.sources == i]


def _rhs(model, n):
    def rhs(_, y):
        return np.concatenate([model.speed(y[:n], y[n:]), -y[n:] / model.tau_syn])

    return rhs


def _events(model, n):
    """A crossing ends the integration; maxima are noted, to see a crossing between two steps."""

    def crossing(i):
        def gap(_, y):
            return model.gap(y[:n])[i]

        gap.terminal, gap.direction = True, 1
        return gap

    def summit(i):
        def speed(_, y):
            return model.speed(y[:n], y[n:])[i]

        speed.terminal, speed.direction = False, -1
        return speed

    return [crossing(i) for i in range(n)] + [summit(i) for i in range(n)]


def _integrate(rhs, t0, y0, t1):
    if t1 <= t0:
        return y0
    return solve_ivp(rhs, (t0, t1), y0, method="DOP853", rtol=RTOL, atol=ATOL).y[:, -1]


def _first_guess(model, n, sol, t0):
    """The earliest crossing in the solver's dense output as (time, neuron), or None."""
    found = [(float(sol.t_events[i][0]), i) for i in range(n) if sol.t_events[i].size]
    for i in range(n):
        for top in sol.t_events[n + i]:

            def gap(t, i=i):
                return model.gap(sol.sol(t)[:n])[i]

            if top > t0 and gap(top) >= 0 and gap(t0) < 0:
                root = root_scalar(gap, bracket=(t0, top), xtol=1e-14, rtol=1e-15).root
                found.append((float(root), i))
                break
    return min(found) if found else None


def _polish(model, rhs, n, sol, guess, i):
    """Newton on the crossing, each try a new integration from the last step before it."""
    before = np.flatnonzero(sol.t < guess - 1e-7 * (1 + guess))
    k = before[-1] if before.size else 0
    t_k, y_k, t = sol.t[k], sol.y[:, k], guess
    for _ in range(50):
        y = _integrate(rhs, t_k, y_k, t)
        step = model.gap(y[:n])[i] / model.speed(y[:n], y[n:])[i]
        t = max(t - step, t_k)
        if abs(step) <= 4e-16 * abs(t):
            break
    return t, _integrate(rhs, t_k, y_k, t)


def simulate(model, weights, in_times, t_max, *, mask=None, query=(), max_step=0.5, limit=300):
    """Every event up to `t_max`, in order, and V of all neurons at the times `query`.

    `weights` is (n + n_in, n), rows are sources; `in_times` is (n_in, K), padded with inf, in any
    order. Ties are not handled: of two neurons that cross at once the lower index fires first.
    """
    weights = np.asarray(weights, float)
    n = weights.shape[1]
    if mask is not None:
        weights = np.where(mask, weights, 0.0)
    stops = [
        (t, n + c) for c, row in enumerate(np.asarray(in_times, float)) for t in row if t <= t_max
    ]
    stops += [(t, -1 - k) for k, t in enumerate(query)]  # a cut, where V is read
    stops = [*sorted(stops), (t_max, None)]
    rhs, events = _rhs(model, n), _events(model, n)
    y = np.concatenate([model.start(n), np.zeros(n)])
    t, record, seen = 0.0, [], np.full((n, len(query)), np.nan)
    for stop, source in stops:
        while t < stop:
            sol = solve_ivp(
                rhs,
                (t, stop),
                y,
                "DOP853",
                events=events,
                dense_output=True,
                rtol=RTOL,
                atol=ATOL,
                max_step=max_step,
            )
            guess = _first_guess(model, n, sol, t)
            if guess is None:
                t, y = stop, sol.y[:, -1]
                break
            t, y = _polish(model, rhs, n, sol, *guess)
            if t > stop:  # the crossing was at the very end, and polishing took it past
                t, y = stop, sol.y[:, -1]
                break
            model.jump(y[:n], guess[1])
            y[n:] += weights[guess[1]]
            record.append((t, guess[1]))
            if len(record) > limit:
                raise RuntimeError(
                    f"over {limit} events by {t} ms: a network that excites itself without end"
                )
        if source is None:
            break
        if source < 0:
            seen[:, -1 - source] = model.observe(y[:n])
        else:
            y[n:] += weights[source]
            record.append((stop, source))
    times, sources = (
        (np.array(x) for x in zip(*record, strict=True))
        if record
        else (np.zeros(0), np.zeros(0, int))
    )
    return Record(times, sources, seen)
