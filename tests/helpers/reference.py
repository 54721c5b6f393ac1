"""Slow, independent simulator that the package is compared with.

It integrates the differential equations of the models as stated in their papers, with SciPy's
DOP853 and event functions, restarted at every event. It uses none of the package's formulas: no
closed form, no projective coordinates, no certified root finder. Only NumPy and SciPy.

LIF:  tau_mem V' = -V + I + bias,  tau_syn I' = -I, and a spike as V rises to threshold
QIF:  tau_mem V' = V (V - 1) + I + bias, integrated as the phase p = atan(V/pi)/pi + 1/2, with a
      spike at p = 1, after which it continues at p = 0
EIF:  tau_mem V' = v_rest - V + sharpness exp((V - v_rheobase)/sharpness) + I + bias
ALIF: LIF with the threshold + beta A, tau_adapt A' = -A, and A grows by 1 at a spike
Izhikevich: V' = 0.04 V^2 + 5 V + 140 - U + I + bias,  U' = a (b V - U); a spike adds d to U
Theta: the QIF without a synaptic current; a weight is added to V
EGRU: tau_mem c' = s(a_u) (tanh(a_z) - c), tau_syn a_x' = bias_x - a_x, s the logistic function; a
      spike sets c to 0, and adds a weight to each a_x, that of a_z times s(a_r)
TwoCompartment: tau_soma V' = -V + coupling (U - V) + plateau s(10 U - 5) + I + bias,
      tau_dendrite U' = -U + coupling (V - U),  tau_syn I' = -I; a weight is added to I or to U, and
      a spike sets V to 0
Refractory: the first variable is held for a period after each spike; all others continue
Populations: different neurons follow different models
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

RTOL, ATOL = 1e-12, 1e-13
# The index of an input source is n + channel; a neuron has its own index.


class Synaptic:
    """Neuron with a firing variable v, defined by its derivative, gap and jump, and a synaptic
    current.

    The state has the shape (variables, n); `simulate` needs only the methods below.
    """

    tau_syn: Any
    receptors = 1  # number of blocks of n columns in the weights

    def __post_init__(self):
        """Convert arrays of JAX, whose operations take 20 times as long as those of NumPy."""
        for name, value in vars(self).items():
            if hasattr(value, "__array__"):
                object.__setattr__(self, name, np.asarray(value))

    def initial(self, n):
        return np.stack([self.start(n), np.zeros(n)])

    def slope(self, y):
        return np.stack([self.speed(*y), -y[-1] / self.tau_syn])

    def excess(self, y):
        return self.gap(y[0])

    def climb(self, y):
        """Time derivative of the excess over the threshold."""
        return self.slope(y)[0]

    def fire(self, y, i):
        self.jump(y[0], i)

    def receive(self, y, row):
        y[-1] += row

    def seen(self, y):
        return self.observe(y[0])

    def settle(self, y):
        """Time for which the equations stay valid from here on; also removes rounding errors of a
        phase that has ended."""
        return np.inf


@dataclasses.dataclass(frozen=True)
class LIF(Synaptic):
    tau_mem: Any
    tau_syn: Any
    threshold: Any = 1.0
    v_reset: Any = 0.0
    bias: Any = 0.0
    reset_mode: str = "set"
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
        if self.reset_mode == "set":
            v[i] = np.broadcast_to(self.v_reset, (n,))[i]
        else:
            v[i] -= np.broadcast_to(self.threshold, (n,))[i]

    def observe(self, v):
        return v


@dataclasses.dataclass(frozen=True)
class QIF(Synaptic):
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


@dataclasses.dataclass(frozen=True)
class EIF(LIF):
    sharpness: Any = 0.2
    v_rheobase: Any = 1.0
    v_rest: Any = 0.0

    def speed(self, v, current):
        # The integrator looks beyond the peak, but crossings there do not count.
        onset = np.exp((np.minimum(v, self.threshold + 0.1) - self.v_rheobase) / self.sharpness)
        return (self.v_rest - v + self.sharpness * onset + current + self.bias) / self.tau_mem


@dataclasses.dataclass(frozen=True)
class ALIF(LIF):
    tau_adapt: Any = 1.0
    beta: Any = 0.0

    def initial(self, n):
        return np.stack([self.start(n), np.zeros(n), np.zeros(n)])

    def slope(self, y):
        v, a, current = y
        return np.stack([self.speed(v, current), -a / self.tau_adapt, -current / self.tau_syn])

    def excess(self, y):
        return y[0] - (self.threshold + self.beta * y[1])

    def climb(self, y):
        v, a, _ = self.slope(y)
        return v - self.beta * a

    def fire(self, y, i):
        self.jump(y[0], i)
        y[1, i] += 1.0


@dataclasses.dataclass(frozen=True)
class Izhikevich(Synaptic):
    tau_syn: Any
    a: Any
    b: Any
    c: Any
    d: Any
    bias: Any = 0.0
    threshold: Any = 30.0
    v_init: Any = None
    u_init: Any = None

    def initial(self, n):
        v = self.c if self.v_init is None else self.v_init
        u = self.b * np.asarray(v) if self.u_init is None else self.u_init
        return np.stack([np.broadcast_to(x, (n,)) for x in (v, u, 0.0)])

    def slope(self, y):
        v, u, current = y
        low = np.minimum(v, self.threshold + 5.0)  # crossings beyond the peak do not count
        rise = 0.04 * low**2 + 5 * v + 140 - u + current + self.bias
        return np.stack([rise, self.a * (self.b * v - u), -current / self.tau_syn])

    def excess(self, y):
        return y[0] - self.threshold

    def fire(self, y, i):
        n = y.shape[1]
        y[0, i] = np.broadcast_to(self.c, (n,))[i]
        y[1, i] += np.broadcast_to(self.d, (n,))[i]

    def seen(self, y):
        return y[0]


@dataclasses.dataclass(frozen=True)
class Theta(QIF):
    tau_syn: Any = None

    def initial(self, n):
        return self.start(n)[None]

    def slope(self, y):
        return self.speed(y[0], 0.0)[None]

    def receive(self, y, row):
        # V = -pi cot(pi p) grows by the weight; a neuron that has just fired, p = 0, is unchanged.
        angle = np.pi * y[0]
        y[0] = np.arctan2(np.sin(angle), np.cos(angle) - row / np.pi * np.sin(angle)) / np.pi


@dataclasses.dataclass(frozen=True)
class EGRU(Synaptic):
    tau_mem: Any
    tau_syn: Any
    threshold: Any = 0.5
    bias_u: Any = 0.0
    bias_r: Any = 0.0
    bias_z: Any = 0.0
    c_init: Any = 0.0
    receptors = 3

    def initial(self, n):
        return np.stack([np.broadcast_to(x, (n,)) for x in (self.c_init, 0.0, 0.0, 0.0)])

    def slope(self, y):
        rise = (np.tanh(y[3]) - y[0]) / (1 + np.exp(-y[1])) / self.tau_mem
        biases = (self.bias_u, self.bias_r, self.bias_z)
        decays = [(b - a) / self.tau_syn for a, b in zip(y[1:], biases, strict=True)]
        return np.stack([rise, *decays])

    def gap(self, c):
        return c - self.threshold

    def jump(self, c, i):
        c[i] = 0.0

    def receive(self, y, row):
        update, reset, candidate = row.reshape(3, -1)
        y[3] += candidate / (1 + np.exp(-y[2]))
        y[1] += update
        y[2] += reset

    def seen(self, y):
        return y[0]


@dataclasses.dataclass(frozen=True)
class TwoCompartment(Synaptic):
    tau_soma: Any
    tau_dendrite: Any
    tau_syn: Any
    coupling: Any
    plateau: Any
    threshold: Any
    bias: Any
    receptors = 2

    def initial(self, n):
        return np.zeros((3, n))

    def slope(self, y):
        soma, dendrite, current = y
        flows = self.coupling * (dendrite - soma)
        onset = self.plateau / (1 + np.exp(5 - 10 * dendrite))
        rise = (flows - soma + onset + current + self.bias) / self.tau_soma
        return np.stack([rise, (-flows - dendrite) / self.tau_dendrite, -current / self.tau_syn])

    def gap(self, v):
        return v - self.threshold

    def jump(self, v, i):
        v[i] = 0.0

    def receive(self, y, row):
        to_soma, to_dendrite = row.reshape(2, -1)
        y[2] += to_soma
        y[1] += to_dendrite

    def seen(self, y):
        return y[0]


class Refractory(Synaptic):
    """The last variable is the remaining refractory time of each neuron.

    The set of refractory neurons is fixed until one refractory period ends; the integration
    restarts there.
    """

    def __init__(self, model, period):
        self.model, self.period, self.receptors = model, period, model.receptors
        self.rests: Any = None

    def initial(self, n):
        return np.concatenate([self.model.initial(n), np.zeros((1, n))])

    def settle(self, y):
        y[-1, y[-1] < 1e-9] = 0.0
        self.rests = y[-1] > 0
        return min(self.model.settle(y[:-1]), *y[-1, self.rests], np.inf)

    def slope(self, y):
        inner = np.array(self.model.slope(y[:-1]))
        inner[0, self.rests] = 0.0
        return np.concatenate([inner, np.where(self.rests, -1.0, 0.0)[None]])

    def excess(self, y):
        return np.where(self.rests, -1.0, self.model.excess(y[:-1]))

    def climb(self, y):
        return np.where(self.rests, -1.0, self.model.climb(y[:-1]))

    def fire(self, y, i):
        self.model.fire(y[:-1], i)
        y[-1, i] = np.broadcast_to(self.period, y.shape[1:])[i]

    def receive(self, y, row):
        self.model.receive(y[:-1], row)

    def seen(self, y):
        return self.model.seen(y[:-1])


class Populations(Synaptic):
    """Each model owns a block of consecutive rows of its columns of the state."""

    def __init__(self, parts):
        self.parts = [model for model, _ in parts]
        self.starts = np.cumsum([0, *(size for _, size in parts)])
        self.rows: list[int] = []

    def initial(self, n):
        tables = [m.initial(size) for m, size in zip(self.parts, np.diff(self.starts), strict=True)]
        self.rows = [len(table) for table in tables]
        table = np.zeros((max(self.rows), n))
        for own, part in zip(self._own(table), tables, strict=True):
            own[:] = part
        return table

    def _own(self, y):
        bounds = zip(self.rows, self.starts[:-1], self.starts[1:], strict=True)
        return [y[:rows, start:stop] for rows, start, stop in bounds]

    def _each(self, y, call):
        return [call(m, own) for m, own in zip(self.parts, self._own(y), strict=True)]

    def settle(self, y):
        return min(self._each(y, lambda m, own: m.settle(own)))

    def slope(self, y):
        out = np.zeros_like(y)
        for own, part in zip(self._own(out), self._each(y, lambda m, x: m.slope(x)), strict=True):
            own[:] = part
        return out

    def excess(self, y):
        return np.concatenate(self._each(y, lambda m, own: m.excess(own)))

    def climb(self, y):
        return np.concatenate(self._each(y, lambda m, own: m.climb(own)))

    def fire(self, y, i):
        part = int(np.searchsorted(self.starts, i, side="right")) - 1
        self.parts[part].fire(self._own(y)[part], i - self.starts[part])

    def receive(self, y, row):
        for part, own in enumerate(self._own(y)):
            self.parts[part].receive(own, row[self.starts[part] : self.starts[part + 1]])

    def seen(self, y):
        return np.concatenate(self._each(y, lambda m, own: m.seen(own)))


@dataclasses.dataclass
class Record:
    times: np.ndarray  # of every event, neurons and inputs
    sources: np.ndarray
    seen: np.ndarray  # (n, n_times), V at the query times

    def spikes(self, i):
        return self.times[self.sources == i]


def _rhs(model, n):
    def rhs(_, y):
        return model.slope(y.reshape(-1, n)).reshape(-1)

    return rhs


def _events(model, n):
    """Events: a crossing ends the integration; maxima are recorded, to detect a crossing between
    steps."""

    def crossing(i):
        def excess(_, y):
            return model.excess(y.reshape(-1, n))[i]

        excess.terminal, excess.direction = True, 1
        return excess

    def summit(i):
        def climb(_, y):
            return model.climb(y.reshape(-1, n))[i]

        climb.terminal, climb.direction = False, -1
        return climb

    return [crossing(i) for i in range(n)] + [summit(i) for i in range(n)]


def _changed(change, y, n):
    """The flat state after a change of the table."""
    table = np.array(y, float).reshape(-1, n)
    change(table)
    return table.reshape(-1)


def _integrate(rhs, t0, y0, t1):
    if t1 <= t0:
        return y0
    return solve_ivp(rhs, (t0, t1), y0, method="DOP853", rtol=RTOL, atol=ATOL).y[:, -1]


def _first_guess(model, n, sol, t0):
    """Earliest crossing in the solver's dense output as (time, neuron), or None."""
    found = [(float(sol.t_events[i][0]), i) for i in range(n) if sol.t_events[i].size]
    for i in range(n):
        for top in sol.t_events[n + i]:

            def excess(t, i=i):
                return model.excess(sol.sol(t).reshape(-1, n))[i]

            if top > t0 and excess(top) >= 0 and excess(t0) < 0:
                root = root_scalar(excess, bracket=(t0, top), xtol=1e-14, rtol=1e-15).root
                found.append((float(root), i))
                break
    return min(found) if found else None


def _polish(model, rhs, n, sol, guess, i):
    """Newton's method on the crossing; each iteration integrates again from the last step before
    it."""
    before = np.flatnonzero(sol.t < guess - 1e-7 * (1 + guess))
    k = before[-1] if before.size else 0
    t_k, y_k, t = sol.t[k], sol.y[:, k], guess
    for _ in range(50):
        y = _integrate(rhs, t_k, y_k, t)
        table = y.reshape(-1, n)
        step = model.excess(table)[i] / model.climb(table)[i]
        t = max(t - step, t_k)
        if abs(step) <= 4e-16 * abs(t):
            break
    return t, _integrate(rhs, t_k, y_k, t)


def simulate(model, weights, in_times, t_max, *, mask=None, query=(), max_step=0.5, limit=300):
    """Every event up to `t_max`, in order, and V of all neurons at the times `query`.

    `weights` is (n + n_in, n), or (n + n_in, receptors * n), rows are sources; `in_times` is (n_in,
    K), padded with inf, in any order. Ties are not handled: of two neurons that cross at the same
    time, the one with the lower index fires first.
    """
    weights = np.asarray(weights, float)
    n = weights.shape[1] // model.receptors
    if mask is not None:
        weights = np.where(mask, weights, 0.0)
    stops = [
        (t, n + c) for c, row in enumerate(np.asarray(in_times, float)) for t in row if t <= t_max
    ]
    stops += [(t, -1 - k) for k, t in enumerate(query)]  # an interruption at which V is read
    stops = [*sorted(stops), (t_max, None)]
    rhs, events = _rhs(model, n), _events(model, n)
    y = np.array(model.initial(n), float).reshape(-1)
    t, record, seen = 0.0, [], np.full((n, len(query)), np.nan)
    for stop, source in stops:
        while t < stop:
            table = y.reshape(-1, n).copy()
            end = min(stop, t + model.settle(table))
            y = table.reshape(-1)
            sol = solve_ivp(
                rhs,
                (t, end),
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
                t, y = end, sol.y[:, -1]
                continue
            t, y = _polish(model, rhs, n, sol, *guess)
            if t > end:  # Newton's method moved a crossing at the end past the end
                t, y = end, sol.y[:, -1]
                continue
            y = _changed(lambda y, i=guess[1]: model.fire(y, i), y, n)
            y = _changed(lambda y, i=guess[1]: model.receive(y, weights[i]), y, n)
            record.append((t, guess[1]))
            if len(record) > limit:
                raise RuntimeError(
                    f"over {limit} events by {t} ms: a network that excites itself without end"
                )
        if source is None:
            break
        if source < 0:
            seen[:, -1 - source] = model.seen(y.reshape(-1, n))
        else:
            y = _changed(lambda y, i=source: model.receive(y, weights[i]), y, n)
            record.append((stop, source))
    times, sources = (
        (np.array(x) for x in zip(*record, strict=True))
        if record
        else (np.zeros(0), np.zeros(0, int))
    )
    return Record(times, sources, seen)
