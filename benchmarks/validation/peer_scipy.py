"""Worker of SciPy: the published equations, integrated by `solve_ivp` with DOP853 between events.

The integration of the whole network restarts at each spike, at each arrival of a spike and at each
end of a refractory period. The first crossing is searched in the dense output: a change of sign of
the largest excess over the threshold, and maxima of the excess between the samples. Newton's method
then refines the crossing; each of its iterations integrates again from the last step before it.
Neurons that cross their thresholds at the same time fire one after the other.
"""

import heapq
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ..workers import files
from . import trains
from .equations import MODELS, Model

RTOL, ATOL = 1e-13, 1e-14
#: Samples of the dense output per step of the integrator, and the longest step in ms.
SAMPLES, MAX_STEP = 4, 2.0

Crossing = tuple[float, int]


class Network:
    """Network of one model; `step` advances it to the next spike."""

    def __init__(self, model: str, one: files.Arrays) -> None:
        named = {name: x for name, x in one.items() if name.startswith("neuron_")}
        parameters = {name.removeprefix("neuron_"): x for name, x in named.items()}
        self.model: Model = MODELS[model](parameters)
        self.y = self.model.initial()
        self.shape, self.n = self.y.shape, self.y.shape[1]
        self.period = one.get("period", np.zeros(self.n))
        self.t, self.free_at = 0.0, np.zeros(self.n)

    def step(self, end: float) -> int | None:
        """Advance to `end`, or to the next spike before it; return the neuron that fires."""
        while self.t < end:
            held = self.free_at > self.t
            over = ~held & (self.model.excess(self.y) >= 0)
            if over.any():
                return int(np.argmax(over))
            stop = min(end, np.min(self.free_at[held], initial=np.inf))
            segment = Segment(self.model, self.y, held, self.t, stop)
            crossing = segment.first_crossing()
            if crossing is not None:
                self.t, self.y = segment.refined(*crossing)
                return crossing[1]
            self.t, self.y = stop, segment.end
        return None

    def fire(self, i: int) -> None:
        self.model.fire(self.y, i)
        if self.period[i] > 0:
            self.free_at[i] = self.t + self.period[i]


class Segment:
    """Solution from `t0` to `t1`; the first variable of neurons in `held` is constant."""

    def __init__(self, model: Model, y: np.ndarray, held: np.ndarray, t0: float, t1: float) -> None:
        self.model, self.shape, self.free = model, y.shape, ~held
        self.solution: Any = self._solve(t0, t1, y, events=self._over(), dense_output=True)

    @property
    def end(self) -> np.ndarray:
        return self.solution.y[:, -1].reshape(self.shape)

    def first_crossing(self) -> Crossing | None:
        """Time and neuron of the first crossing."""
        found = list(self._peaks())
        if len(self.solution.t_events[0]):
            time = float(self.solution.t_events[0][0])
            found.append((time, int(np.argmax(self._excess(time)))))
        return min(found, default=None)

    def refined(self, guess: float, i: int) -> tuple[float, np.ndarray]:
        """Time of the crossing, and the state there."""
        k = int(np.searchsorted(self.solution.t, guess - 1e-7)) - 1
        start, y0 = self.solution.t[max(k, 0)], self.solution.y[:, max(k, 0)]
        t, y = guess, y0
        for _ in range(20):
            y = self._solve(start, t, y0).y[:, -1] if t > start else y0
            table = y.reshape(self.shape)
            slope = self._slope(table)
            change = self.model.excess(table)[i] / self.model.climb(table, slope)[i]
            if abs(change) <= 1e-15 * max(1.0, abs(t)):
                break
            t = max(t - change, start)
        return float(t), y.reshape(self.shape).copy()

    def _over(self) -> Any:
        """Event at which the first neuron crosses its threshold; it ends the integration."""

        def over(_: float, y: np.ndarray) -> float:
            return np.max(np.where(self.free, self.model.excess(y.reshape(self.shape)), -1.0))

        over.terminal, over.direction = True, 1  # pyright: ignore[reportFunctionMemberAccess]
        return over

    def _solve(self, t0: float, t1: float, y0: np.ndarray, **options: Any) -> Any:
        def slope(_: float, y: np.ndarray) -> np.ndarray:
            return self._slope(y.reshape(self.shape)).ravel()

        accuracy = {"rtol": RTOL, "atol": ATOL, "max_step": MAX_STEP}
        return solve_ivp(slope, (t0, t1), y0.ravel(), method="DOP853", **accuracy, **options)

    def _slope(self, y: np.ndarray) -> np.ndarray:
        slope = self.model.slope(y)
        slope[0] *= self.free
        return slope

    def _states(self, times: Any) -> np.ndarray:
        """States at these times; the last axis are the neurons."""
        return np.moveaxis(self.solution.sol(times).reshape(*self.shape, -1), 1, -1)

    def _excess(self, time: float) -> np.ndarray:
        return np.where(self.free, self.model.excess(self._states([time])), -1.0)[0]

    def _climb(self, time: float) -> np.ndarray:
        y = self._states([time])
        return self.model.climb(y, self._slope(y))[0]

    def _peaks(self) -> Iterator[Crossing]:
        """Crossings up to a maximum between two samples that are both below the threshold."""
        steps, fractions = self.solution.t, np.arange(SAMPLES) / SAMPLES
        times = (steps[:-1, None] + np.diff(steps)[:, None] * fractions).ravel()
        times = np.append(times, steps[-1])
        y = self._states(times)
        excess = np.where(self.free, self.model.excess(y), -1.0)
        climb = np.where(self.free, self.model.climb(y, self._slope(y)), 0.0)
        reached = excess[:-1] + climb[:-1] * np.diff(times)[:, None] >= 0
        turns = (climb[:-1] > 0) & (climb[1:] < 0) & (excess[:-1] < 0) & (excess[1:] < 0)
        for k, i in np.argwhere(reached & turns):
            top: Any = brentq(lambda t, i=i: self._climb(t)[i], times[k], times[k + 1])
            if self._excess(top)[i] >= 0:
                time: Any = brentq(lambda t, i=i: self._excess(t)[i], times[k], top)
                yield float(time), int(i)


def simulate(
    model: str, one: files.Arrays, t_max: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Times and neurons of all spikes until `t_max`, in order."""
    network = Network(model, one)
    n, weights = network.n, one["weights"].reshape(len(one["mask"]), -1, network.n)
    number, coming, found = itertools.count(), [], []

    def send(source: int, time: float) -> None:
        targets = np.flatnonzero(one["mask"][source])
        own = np.broadcast_to(one.get("delays", np.zeros(len(weights))).T, (n, len(weights)))
        delays = own[targets, source]
        for delay in np.unique(delays):
            which = targets[delays == delay]
            heapq.heappush(coming, (time + delay, next(number), source, which))

    for channel, times in enumerate(one["in_times"]):
        for time in times:
            send(n + channel, time)
    while network.t < t_max:
        arrival = coming[0][0] if coming else np.inf
        i = network.step(min(arrival, t_max))
        if i is not None:
            network.fire(i)
            found.append((network.t, i))
            send(i, network.t)
        elif arrival <= t_max:
            _, _, source, targets = heapq.heappop(coming)
            network.model.receive(network.y, targets, weights[source][:, targets])
        if len(found) > most:
            raise RuntimeError(f"over {most} spikes by {network.t} ms")
    times, sources = zip(*found, strict=True) if found else ((), ())
    return np.array(times, float), np.array(sources, int)


class Commands:
    """Command `spikes`: all spikes of all networks."""

    def spikes(self, problem: str, out: str, model: str, t_max: float) -> None:
        networks = trains.unstack(files.read(problem))
        trains.write(out, [simulate(model, one, t_max, 5000) for one in networks])
