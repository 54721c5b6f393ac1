"""Slow, independent simulator of networks with delays that the package is compared with.

Between two spikes that reach it, a neuron is independent of the others. Each neuron is therefore
simulated separately, from the last event that affected it, and a heap holds all spikes in transit.
There are no segments of the whole network, and no queue of a fixed size. Only NumPy and SciPy.

A neuron here is a single neuron, and its parameters are numbers:

LIF tau_mem V' = -V + I + bias, tau_syn I' = -I, by its textbook solution; a refractory period Delta
tau V' = -V + bias, and arriving weights are added to V Solved any model of `reference.py`,
integrated by DOP853
"""

import dataclasses
import heapq
import itertools
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from helpers import reference as ref

GRID = np.linspace(0.0, 1.0, 120)


@dataclasses.dataclass(frozen=True)
class LIF:
    tau_mem: float
    tau_syn: float
    threshold: float = 1.0
    v_reset: float = 0.0
    bias: float = 0.0
    v_init: float = 0.0
    period: float = 0.0  # refractory period after a spike, in which V is constant

    def start(self):
        return np.array([self.v_init, 0.0, 0.0])  # V, I, remaining refractory time

    def after(self, y, s):
        """State after one or many times s."""
        s = np.asarray(s)
        v, current, left = y
        free = np.maximum(s - left, 0.0)
        now = current * np.exp(-(s - free) / self.tau_syn)  # at the end of the period
        decay, syn = np.exp(-free / self.tau_mem), np.exp(-free / self.tau_syn)
        if self.tau_mem == self.tau_syn:
            response = free / self.tau_mem * decay
        else:
            response = (syn - decay) * self.tau_syn / (self.tau_syn - self.tau_mem)
        v = self.bias + (v - self.bias) * decay + now * response
        return np.stack([v, now * syn, np.maximum(left - s, 0.0)])

    def slope(self, y):
        return np.where(y[2] > 0, 0.0, (self.bias - y[0] + y[1]) / self.tau_mem)

    def excess(self, y):
        return np.where(y[2] > 0, -1.0, y[0] - self.threshold)

    def receive(self, y, weight):
        return y + np.array([0.0, weight, 0.0])

    def fire(self, y):
        return np.array([self.v_reset, y[1], self.period])

    def crossing(self, y, horizon):
        """First s in (0, horizon] at which the neuron crosses its threshold, or inf."""
        if y[2] > 0:  # start, after the refractory period
            if y[2] >= horizon:
                return np.inf
            free = self.after(y, y[2])
            free[2] = 0.0
            return y[2] + self.crossing(free, horizon - y[2])
        points = GRID * horizon
        slopes = self.slope(self.after(y, points))
        for k in np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] < 0)):
            top = brentq(lambda s: self.slope(self.after(y, s)), *points[k : k + 2])
            points = np.sort(np.append(points, top))
        over = self.excess(self.after(y, points)) >= 0
        if over[0]:
            return 0.0
        if not over.any():
            return np.inf
        k = np.argmax(over)
        return brentq(
            lambda s: self.excess(self.after(y, s)),
            points[k - 1],
            points[k],
            xtol=1e-15,
            rtol=1e-15,
        )

    def seen(self, y):
        return y[0]


@dataclasses.dataclass(frozen=True)
class Delta(LIF):
    tau_syn: float = 1.0

    def receive(self, y, weight):
        return y + np.array([weight, 0.0, 0.0])


@dataclasses.dataclass(frozen=True)
class Solved:
    """One neuron of a model of `reference.py`; the state is flat."""

    model: Any
    max_step: float = 2.0

    def start(self):
        return np.array(self.model.initial(1), float).reshape(-1)

    def after(self, y, s):
        return ref._integrate(ref._rhs(self.model, 1), 0.0, y, s)

    def excess(self, y):
        return self.model.excess(y.reshape(-1, 1))[0]

    def receive(self, y, weight):
        return ref._changed(lambda y: self.model.receive(y, np.array([weight])), y, 1)

    def fire(self, y):
        return ref._changed(lambda y: self.model.fire(y, 0), y, 1)

    def crossing(self, y, horizon):
        rhs, events = ref._rhs(self.model, 1), ref._events(self.model, 1)
        sol = solve_ivp(
            rhs,
            (0.0, horizon),
            y,
            "DOP853",
            events=events,
            dense_output=True,
            rtol=ref.RTOL,
            atol=ref.ATOL,
            max_step=self.max_step,
        )
        guess = ref._first_guess(self.model, 1, sol, 0.0)
        if guess is None:
            return np.inf
        return ref._polish(self.model, rhs, 1, sol, *guess)[0]

    def seen(self, y):
        return self.model.seen(y.reshape(-1, 1))[0]


def single(model, **parameters):
    """One neuron per column of these parameters; each parameter is a number or one value per
    neuron."""
    arrays = np.broadcast_arrays(*parameters.values())
    return [
        model(**{k: float(x[i]) for k, x in zip(parameters, arrays, strict=True)})
        for i in range(arrays[0].size)
    ]


def simulate(
    neurons, weights, delays, in_times, t_max, *, mask=None, query=(), then=None, limit=400
):
    """Spikes of neurons up to `t_max` in order, as times and sources, and the values of all neurons
    at the times `query`.

    `weights` are (n + n_in, n), and an entry may itself be an array: (n + n_in, n, ...). `delays`
    are (n + n_in,) or (n + n_in, n). `then` is a time and the neurons used from then on; no input
    is sent after it. A crossing comes before an arrival at the same time. Ties of crossings that
    affect each other without delay are not handled.
    """
    n, weights = len(neurons), np.asarray(weights, float)
    pairs = weights.shape[:2]
    delays = np.broadcast_to(np.asarray(delays, float).reshape(len(weights), -1), pairs)
    exists = np.ones(pairs, bool) if mask is None else np.asarray(mask)
    number, coming, neurons = itertools.count(), [], list(neurons)
    change, successors = (np.inf, None) if then is None else then

    def send(source, time):
        for i in np.flatnonzero(exists[source]):
            arrival = (time + delays[source, i], next(number), i, weights[source, i])
            if arrival[0] <= t_max:
                heapq.heappush(coming, arrival)

    for channel, row in enumerate(np.asarray(in_times, float)):
        for time in row[row <= change]:
            send(n + channel, time)

    since, states = np.zeros(n), [neuron.start() for neuron in neurons]
    due, record, seen = np.zeros(n), [], np.full((n, len(query)), np.nan)

    def foresee(i):
        """Crossing time of neuron i, if it is before the next arrival that is known now."""
        until = min([time for time, _, j, _ in coming if j == i], default=t_max)
        wait = neurons[i].crossing(states[i], until - since[i]) if until > since[i] else np.inf
        due[i] = since[i] + wait

    def move(i, time):
        states[i] = neurons[i].after(states[i], time - since[i])
        since[i] = time

    for i in range(n):
        foresee(i)
    stops = [(time, k) for k, time in enumerate(query)] + [(change, None)] * (then is not None)
    for stop, k in [*sorted(stops), (t_max, None)]:
        while True:
            i, arrival = int(np.argmin(due)), coming[0][0] if coming else np.inf
            now = min(due[i], arrival)
            if now > stop:
                break
            if due[i] <= arrival:
                move(i, now)
                states[i] = neurons[i].fire(states[i])
                record.append((now, i))
                send(i, now)
            else:
                _, _, i, weight = heapq.heappop(coming)
                move(i, now)
                states[i] = neurons[i].receive(states[i], weight)
            lifted = neurons[i].excess(states[i]) >= 0
            if lifted:
                due[i] = now
            else:
                foresee(i)
            if len(record) > limit:
                raise RuntimeError(f"over {limit} spikes by {now}")
        if k is None and successors is not None:
            for i in range(n):
                move(i, stop)
                neurons[i] = successors[i]
                foresee(i)
            successors = None
        if k is not None:
            seen[:, k] = [
                x.seen(x.after(y, stop - t)) for x, y, t in zip(neurons, states, since, strict=True)
            ]
    times, sources = (np.array(x) for x in zip(*record, strict=True)) if record else ([], [])
    return np.asarray(times, float), np.asarray(sources, int), seen


def trains(times, sources, n):
    """Spike times of each neuron."""
    return [times[sources == i] for i in range(n)]
