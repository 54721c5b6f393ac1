"""Simulation of a random network of excitatory and inhibitory LIF neurons."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from tqdm import tqdm

from ..event import LIF, EventNetwork, Refractory, Solution, Status, Synapses, connect
from . import firing
from .base import LazyFigures, Task, TaskResult, check_samples
from .firing import SpikeTrains
from .settings import option

__all__ = ["BalancedNetwork"]

# Share of excitatory neurons, and of excitatory synapses of each neuron (Brunel 2000).
_EXCITATORY = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalancedNetwork(Task):
    r"""Activity of a random network in which inhibition balances excitation. Nothing is trained.

    The network is similar to that of Brunel (J. Comput. Neurosci. 8:183, 2000). 80 % of the neurons
    are excitatory, the others inhibitory. Each neuron receives `in_degree` synapses from other
    neurons, 80 % of them excitatory, all with the same delay. With $V$ and the synaptic current
    times the resistance, $I$, in mV,

    $$\tau_\text{mem} V' = -V + I + b, \qquad \tau_\text{syn} I' = -I$$

    and each spike that arrives adds its weight to $I$. A constant bias $b$ replaces the Poisson
    input of Brunel's network, so that the activity is irregular only because of the network itself.
    Weights are normally distributed, with mean $w$ for excitation and $-g w$ for inhibition, where
    $g$ is `inhibition`. With four excitatory synapses per inhibitory one, inhibition prevails for
    $g > 4$.

    $w$ and the mean bias are determined by the input of a neuron. If its sources were independent
    Poisson processes of the rate `expected_rate`, then $V$ without threshold would have the mean
    `input_mean` and the standard deviation `input_sd`:

    $$\text{mean} = \bar b + r \tau_\text{syn} K (0.8 - 0.2 g) w, \qquad
    \text{sd}^2 = \frac{r \tau_\text{syn}^2}{2 (\tau_\text{mem} + \tau_\text{syn})}
    K (0.8 + 0.2 g^2) w^2$$

    The network is simulated `trials` times, each time from other initial membrane potentials. The
    synapses are sparse, and a spike updates only its targets, see [`eventsnn.EventNetwork`][].
    """

    name: ClassVar[str] = "balanced-network"
    summary: ClassVar[str] = (
        "simulation of a balanced random network, 2000 LIF neurons with sparse synapses"
    )
    pictures: ClassVar[tuple[str, ...]] = ("raster.png", "distributions.png")
    quick_settings: ClassVar[dict[str, Any]] = {
        "neurons": 300,
        "in_degree": 60,
        "duration": 300.0,
        "trials": 2,
    }

    neurons: int = option(2000, "number of neurons")
    in_degree: int = option(200, "number of synapses per neuron")
    inhibition: float = option(
        8.0, "mean inhibitory weight, in units of the mean excitatory weight", least=0
    )
    input_mean: float = option(
        6.0, "mean of the membrane potential without threshold, in mV; determines the biases"
    )
    input_sd: float = option(
        8.0,
        "standard deviation of the membrane potential without threshold, in mV; determines the "
        "weights",
        least=0,
    )
    expected_rate: float = option(
        8.0, "firing rate for which weights and biases are computed, in Hz", above=0
    )
    weight_spread: float = option(
        0.1, "standard deviation of the weights, in units of their mean", least=0
    )
    bias_spread: float = option(2.0, "standard deviation of the biases, in mV", least=0)
    tau_mem: float = option(20.0, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(2.0, "time constant of the synapses, in ms", above=0)
    threshold: float = option(15.0, "threshold, in mV")
    v_reset: float = option(5.0, "membrane potential after a spike, in mV")
    refractory_period: float = option(2.0, "refractory period, in ms", above=0)
    delay: float = option(1.0, "delay of all synapses, in ms", above=0)
    duration: float = option(1000.0, "simulated time of each trial that counts, in ms", above=0)
    warm_up: float = option(
        100.0, "simulated time before it, whose spikes do not count, in ms", least=0
    )
    trials: int = option(3, "number of simulations, each from other initial membrane potentials")
    bin_width: float = option(5.0, "width of the bins of the population counts, in ms", above=0)
    max_rate: float = option(
        50.0, "largest mean firing rate for which the record of spikes has room, in Hz", above=0
    )

    @property
    def n_excitatory(self) -> int:
        """Number of excitatory neurons, which come first."""
        return round(_EXCITATORY * self.neurons)

    @property
    def mean_weights(self) -> tuple[float, float]:
        """Mean excitatory and mean inhibitory weight (mV)."""
        exciting, inhibiting = self._degrees()
        per_weight = 1e-3 * self.expected_rate * self.tau_syn**2
        per_weight *= exciting + self.inhibition**2 * inhibiting
        weight = self.input_sd * math.sqrt(2 * (self.tau_mem + self.tau_syn) / per_weight)
        return weight, -self.inhibition * weight

    @property
    def mean_bias(self) -> float:
        """Mean bias (mV)."""
        per_spike = sum(k * w for k, w in zip(self._degrees(), self.mean_weights, strict=True))
        return self.input_mean - 1e-3 * self.expected_rate * self.tau_syn * per_spike

    def _degrees(self) -> tuple[int, int]:
        """Numbers of excitatory and of inhibitory synapses per neuron."""
        exciting = round(_EXCITATORY * self.in_degree)
        return exciting, self.in_degree - exciting

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """Draw the network.

        **Raises:** `ValueError` if there are not enough neurons for the synapses of each neuron.
        """
        n, first = self.neurons, self.n_excitatory
        sizes = first, n - first
        if any(k > size - 1 for k, size in zip(self._degrees(), sizes, strict=True)):
            raise ValueError(
                f"in_degree must be small enough for {first} excitatory and {n - first} inhibitory "
                f"neurons, {_EXCITATORY:.0%} of the sources of each neuron being excitatory, got "
                f"{self.in_degree}."
            )
        keys = jax.random.split(key, 5)
        kinds = zip(keys[:2], (range(first), range(first, n)), self._degrees(), strict=True)
        sources, targets = connect.join(
            [connect.fixed_in_degree(key, kind, n, k) for key, kind, k in kinds if k > 0]
        )
        exciting, inhibiting = self.mean_weights
        spread = 1 + self.weight_spread * jax.random.normal(keys[2], (len(sources),))
        weights = jnp.where(sources < first, exciting, inhibiting) * spread
        bias = self.mean_bias + self.bias_spread * jax.random.normal(keys[3], (n,))
        neuron = LIF(
            self.tau_mem,
            self.tau_syn,
            threshold=self.threshold,
            v_reset=self.v_reset,
            bias=bias,
            v_init=self._potentials(keys[4], ()),
        )
        t_max = self.warm_up + self.duration
        return EventNetwork(
            Refractory(neuron, self.refractory_period),
            Synapses(sources, targets, weights, shape=(n, n), delays=self.delay),
            outputs=(0,),
            t_max=t_max,
            max_events=max(n, math.ceil(1e-3 * self.max_rate * n * t_max)),
            queue_capacity=n * (1 + math.ceil(self.delay / self.refractory_period)),
        )

    def untrained(self, sizes: Mapping[str, Any]) -> EventNetwork:
        return self.build(jax.random.split(jax.random.key(self.seed))[0])

    def initial_potentials(self) -> Float[Array, "trials neurons"]:
        """Initial membrane potentials of the trials (mV), uniform between reset and threshold."""
        return self._potentials(jax.random.split(jax.random.key(self.seed))[1], (self.trials,))

    def _potentials(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape n"]:
        low, high = sorted((self.v_reset, self.threshold))
        return jax.random.uniform(key, (*shape, self.neurons), minval=low, maxval=high)

    def predict(
        self, net: EventNetwork, inputs: Float[np.ndarray, "n neurons"]
    ) -> Float[np.ndarray, "n neurons"]:
        """Firing rate of each neuron (Hz), for initial membrane potentials (mV)."""
        potentials = check_samples("inputs", inputs, "n", self.neurons)
        return np.stack([firing.rates(trains) for trains in self.simulate(net, potentials)])

    def simulate(self, net: EventNetwork, potentials: Any) -> Iterator[SpikeTrains]:
        """Spikes after the warm-up, for each row of initial membrane potentials (mV).

        **Raises:** `ValueError` if the network fires more often than at `max_rate`.
        """
        for row in jnp.asarray(potentials, net.weights.dtype):
            found = _simulated(net, row)
            if found.status != Status.completed:
                raise ValueError(
                    f"max_rate must exceed the mean firing rate of the network, got "
                    f"{self.max_rate} Hz: {Status[found.status]}"
                )
            times, sources = np.asarray(found.times), np.asarray(found.sources)
            counted = (sources >= 0) & (times >= self.warm_up)
            yield SpikeTrains(
                times[counted], sources[counted], self.neurons, self.warm_up, net.t_max
            )

    def run(self, *, progress: bool = True, **options: Any) -> TaskResult:
        """Simulate all trials, with a progress bar. There are no checkpoints.

        All metrics are means over the trials. `mean_rate`, `excitatory_rate` and `inhibitory_rate`
        are in Hz, `cv` is the mean coefficient of variation of the intervals between spikes,
        `fano_factor` that of the population counts, and `correlation` the mean correlation of the
        counts of two neurons. `spikes` is the number of spikes per trial.
        """
        net, potentials = self.untrained({}), self.initial_potentials()
        trials = list(
            tqdm(
                self.simulate(net, potentials),
                desc="simulating",
                total=self.trials,
                unit="trial",
                disable=not progress,
            )
        )
        figures = LazyFigures(lambda: self.make_figures(trials))
        return TaskResult(self.metrics(trials), figures, model=net)

    def metrics(self, trials: list[SpikeTrains]) -> dict[str, float]:
        """Statistics of the trials by name, without those that are not defined."""
        found = [self._statistics(trains) for trains in trials]
        means = {name: _mean([one[name] for one in found]) for name in found[0]}
        return {name: value for name, value in means.items() if math.isfinite(value)}

    def _statistics(self, trains: SpikeTrains) -> dict[str, float]:
        each, first = firing.rates(trains), self.n_excitatory
        return {
            "mean_rate": float(np.mean(each)),
            "excitatory_rate": _mean(each[:first]),
            "inhibitory_rate": _mean(each[first:]),
            "cv": _mean(firing.coefficients_of_variation(trains)),
            "fano_factor": firing.fano_factor(trains, self.bin_width),
            "correlation": firing.correlation(trains, self.bin_width),
            "spikes": float(len(trains.times)),
        }

    def make_figures(self, trials: list[SpikeTrains]) -> dict[str, Any]:
        """Draw the spikes of the first trial, and the distributions over the neurons of all."""
        from .figures import balanced  # matplotlib is slow to import

        rates = np.stack([firing.rates(trains) for trains in trials])
        cvs = np.stack([firing.coefficients_of_variation(trains) for trains in trials])
        first, n = trials[0], self.n_excitatory
        edges = firing.bin_edges(first, self.bin_width)
        counts = firing.population_counts(first, self.bin_width)
        return {
            "raster": balanced.raster(
                first.times, first.sources, self.neurons, n, edges, counts, first.end
            ),
            "distributions": balanced.distributions(rates, cvs, n, 1e3 / self.duration),
        }


@eqx.filter_jit
def _simulated(net: EventNetwork, potentials: Float[Array, " neurons"]) -> Solution:
    """Simulate a network from the given membrane potentials."""
    net = eqx.tree_at(lambda net: net.neuron.neuron.v_init, net, potentials)
    return net.simulate(jnp.zeros((0, 1), potentials.dtype), throw=False)


def _mean(values: Any) -> float:
    """Mean of the finite values, NaN if there is none."""
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else float("nan")
