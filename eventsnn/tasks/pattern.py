"""A recurrent network with sparse synapses that learns to emit given spike times."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..event import LIF, EventNetwork, Synapses, connect, trainable
from ..losses import mae_time, van_rossum
from ..train import Callback, Evaluation, FitResult, fit
from . import precise_spikes
from .base import (
    LazyFigures,
    Task,
    TaskResult,
    check_samples,
    skip_nonfinite_updates,
    training_metrics,
)
from .precise_spikes import Arrivals
from .settings import option

__all__ = ["Pattern", "PatternSample"]

# Spikes of each output beyond the wanted ones that the loss considers.
_SURPLUS = 6
# Part of the simulated time, at its start and at its end, without target spikes.
_MARGINS = 1 / 6, 1 / 15
_STEPS_PER_DISPATCH = 20
# Term in the denominator of Adam: a gradient far below it leads to small steps.
_EPS = 1e-3


class PatternSample(NamedTuple):
    """Input pattern and wanted output, with an axis of samples of length 1."""

    in_times: Float[np.ndarray, "1 n_inputs k"]
    """Spike times of each input channel (ms)."""
    targets: Float[np.ndarray, "1 n_outputs n_spikes"]
    """Wanted spike times of each output (ms), in ascending order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pattern(Task):
    r"""Precise spike times of some neurons of a recurrent network, for one input pattern.

    The network has `n_neurons` LIF neurons. The first `n_outputs` are outputs. Each neuron has
    synapses from `in_degree` other neurons and from `input_degree` input channels, with axonal
    delays. The input pattern is frozen: each channel fires `n_input_spikes` times, at random times.
    For this input each output should fire `n_spikes` times, at given random times at least
    `min_interval` apart. Tasks of this kind are used to test learning rules of precise spike times
    (Memmesheimer et al., Neuron 82:925, 2014; Zenke & Ganguli, Neural Comput. 30:1514, 2018).

    All weights train, with exact gradients of all spike times through the recurrent network. The
    loss is a mean over the wanted spikes. A spike within `window` of its target contributes its
    squared error in time. The number of spikes has no gradient, but the membrane potential of an
    output has an exact one: the potential 1 ms after each wanted time, without the wanted spike,
    should be above the threshold by 5 %. A missing spike thus gets a gradient, and other spikes
    cross the threshold fast enough to remain. For a surplus spike, the loss is the potential that
    made it.

    Gradients through a chain of recurrent spikes can be large. Recurrent weights are therefore
    small initially, and the gradient is clipped.
    """

    name: ClassVar[str] = "pattern"
    summary: ClassVar[str] = (
        "given spike times of 20 outputs, 1000 recurrent LIF neurons with sparse synapses"
    )
    pictures: ClassVar[tuple[str, ...]] = ("before.png", "after.png", "loss.png", "errors.png")
    quick_settings: ClassVar[dict[str, Any]] = {
        "steps": 60,
        "n_neurons": 100,
        "n_outputs": 5,
        "t_max": 100.0,
        "n_spikes": 2,
    }

    steps: int = option(600, "number of gradient steps")
    learning_rate: float = option(6e-2, "learning rate of Adam, which decays to 0", least=0)
    clip_norm: float = option(1.0, "norm to which a larger gradient is clipped", above=0)
    n_neurons: int = option(1000, "number of neurons, with the outputs")
    n_inputs: int = option(100, "number of input channels")
    n_outputs: int = option(20, "number of outputs")
    n_input_spikes: int = option(4, "number of spikes of each input channel")
    n_spikes: int = option(3, "number of wanted spikes of each output")
    min_interval: float = option(
        15.0, "smallest interval between wanted spikes of one output, in ms", above=0
    )
    window: float = option(
        7.0,
        "largest distance of a spike from its target, in ms; spikes further away count as surplus",
        above=0,
    )
    in_degree: int = option(50, "number of synapses of each neuron from other neurons")
    input_degree: int = option(50, "number of synapses of each neuron from input channels")
    recurrent_sd: float = option(
        0.2, "standard deviation of the initial recurrent weights; their mean is 0", least=0
    )
    input_mean: float = option(0.1, "mean of the initial input weights")
    input_sd: float = option(0.5, "standard deviation of the initial input weights", least=0)
    delay_min: float = option(2.0, "shortest delay, in ms", above=0)
    delay_max: float = option(5.0, "longest delay, in ms", above=0)
    tau_mem: float = option(20.0, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(5.0, "time constant of the synapses, in ms", above=0)
    t_max: float = option(150.0, "time limit of the simulation, in ms", above=0)
    max_events: int = option(5000, "maximum number of spikes of all neurons")

    def _keys(self) -> PRNGKeyArray:
        """Keys of the network, of the input pattern and of the wanted spikes."""
        return jax.random.split(jax.random.key(self.seed), 3)

    def sample(self) -> PatternSample:
        """Draw the input pattern and the wanted spike times.

        **Raises:** `ValueError` if the wanted spikes do not fit into the simulated time.
        """
        _, key_inputs, key_targets = self._keys()
        shape = self.n_inputs, self.n_input_spikes
        in_times = jax.random.uniform(key_inputs, (1, *shape), maxval=self.t_max)
        start, end = (_MARGINS[0] * self.t_max, (1 - _MARGINS[1]) * self.t_max)
        gaps = self.min_interval * np.arange(self.n_spikes)
        free = end - start - gaps[-1]
        if free < 0:
            raise ValueError(
                f"n_spikes must be small enough for intervals of {self.min_interval} ms between "
                f"{start:.4g} and {end:.4g} ms, got {self.n_spikes}."
            )
        drawn = jax.random.uniform(key_targets, (1, self.n_outputs, self.n_spikes), maxval=free)
        targets = start + np.sort(np.asarray(drawn), axis=-1) + gaps
        return PatternSample(np.sort(np.asarray(in_times), axis=-1), targets.astype(drawn.dtype))

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """Draw the untrained network.

        **Raises:** `ValueError` for more outputs or synapses per neuron than there are neurons or
        channels, and for a shortest delay that exceeds the longest.
        """
        self._check_sizes()
        n, rows = self.n_neurons, self.n_neurons + self.n_inputs
        keys = jax.random.split(key, 4)
        sources, targets = connect.join(
            [
                connect.fixed_in_degree(keys[0], n, n, self.in_degree),
                connect.fixed_in_degree(keys[1], range(n, rows), n, self.input_degree),
            ]
        )
        drawn = jax.random.normal(keys[2], (len(sources),))
        inputs = self.input_mean + self.input_sd * drawn
        weights = jnp.where(sources < n, self.recurrent_sd * drawn, inputs)
        delays = jax.random.uniform(keys[3], (rows,), minval=self.delay_min, maxval=self.delay_max)
        return EventNetwork(
            LIF(self.tau_mem, self.tau_syn),
            Synapses(sources, targets, weights, shape=(rows, n), delays=delays),
            outputs=range(self.n_outputs),
            t_max=self.t_max,
            max_events=self.max_events,
            queue_capacity=max(64, 2 * n),
        )

    def _check_sizes(self) -> None:
        """Raise unless the settings fit together."""
        for name, most, words in (
            ("n_outputs", self.n_neurons, "n_neurons"),
            ("in_degree", self.n_neurons - 1, "n_neurons - 1"),
            ("input_degree", self.n_inputs, "n_inputs"),
            ("delay_min", self.delay_max, "delay_max"),
        ):
            if (value := getattr(self, name)) > most:
                raise ValueError(f"{name} must be at most {words} = {most}, got {value}.")

    def untrained(self, sizes: Mapping[str, Any]) -> EventNetwork:
        return self.build(self._keys()[0])

    def loss(self, net: EventNetwork, batch: PatternSample) -> Float[Array, ""]:
        """Mean loss of the samples of a batch, see the class."""
        found = net.simulate(batch.in_times, throw=False)
        return jnp.mean(
            jax.vmap(self._loss, (None, 0, 0, 0))(net, found.times, found.sources, batch.targets)
        )

    def _loss(self, net, times, sources, targets):
        """Loss of one sample, from its events."""
        synapses, row = net.weights, jnp.maximum(sources, 0)
        column = jnp.minimum(synapses.targets, self.n_outputs)  # the last one: other neurons
        matrix = jnp.zeros((synapses.shape[0], self.n_outputs + 1), synapses.dtype)
        matrix = matrix.at[synapses.sources, column].add(synapses.weights)[:, :-1]
        arrivals = Arrivals(times + synapses.delays[row], matrix[row])
        outputs = jnp.arange(self.n_outputs, dtype=sources.dtype)
        trains = precise_spikes.trains_of(times, sources, outputs, self._max_spikes)
        constants = {"tau_mem": self.tau_mem, "tau_syn": self.tau_syn}
        return precise_spikes.loss(arrivals, trains, targets, window=self.window, **constants)

    @property
    def _max_spikes(self) -> int:
        """Number of spikes of each output that are considered."""
        return self.n_spikes + _SURPLUS

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a cosine schedule, after clipping.

        Most gradients with respect to weights between hidden neurons are small. With the usual
        `eps` of 1e-8, Adam would change all weights equally fast, and the random activity of the
        hidden neurons with them.
        """
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        adam = optax.adam(rate, eps=_EPS)
        return skip_nonfinite_updates(optax.chain(optax.clip_by_global_norm(self.clip_norm), adam))

    def train(
        self, *, callbacks: Sequence[Callback] = (), **options: Any
    ) -> tuple[EventNetwork, PatternSample, FitResult, Evaluation]:
        """Train a network on one pattern. The snapshots are the weights.

        **Returns:** the untrained network, the pattern, the result of `fit`, and the evaluation of
        the network after every 20 steps, with the best network.
        """
        net, sample = self.untrained({}), self.sample()
        every = min(self.steps, _STEPS_PER_DISPATCH)
        evaluation = Evaluation(
            lambda net: self.errors(net, sample)["van_rossum"], every, larger_is_better=False
        )
        result = fit(
            net,
            itertools.repeat(sample, self.steps),
            self.loss,
            self.optimizer(),
            steps=self.steps,
            steps_per_dispatch=every,
            filter_spec=trainable(net, "weights"),
            snapshot=_weights,
            callbacks=[evaluation, *callbacks],
            **options,
        )
        return net, sample, result, evaluation

    def predict(
        self, net: EventNetwork, in_times: Float[np.ndarray, "n n_inputs k"]
    ) -> Float[Array, "n n_outputs spikes"]:
        """First spike times of each output for each input (ms), padded with inf.

        There are `n_spikes` + 6 of them.
        """
        given = jnp.asarray(check_samples("in_times", in_times, "n", self.n_inputs, "k"))
        return _trains(net, given, self._max_spikes)

    def run(self, **options: Any) -> TaskResult:
        """Train a network and compare its spikes with the wanted ones.

        The network is the best of those after every 20 steps: a single spike that only just reaches
        the threshold may appear and vanish until the end of the training. `best_step` is its step.
        The best one has the smallest `van_rossum`, the squared van Rossum distance between the
        spikes and the wanted ones, for the time constant of the membranes.

        `timing_error` (ms) is the mean absolute error of the spike times. The first spike of an
        output is compared with its first wanted spike, and so on; a missing spike counts as one at
        `t_max`. `largest_error` (ms) is the largest error. `right_counts` is the share of outputs
        that fire as often as wanted. `untrained_timing_error` and `untrained_right_counts` are
        those before training.
        """
        before, sample, result, evaluation = self.train(**options)
        best, at_first = evaluation.best_model, self.errors(before, sample)
        metrics = {
            **self.errors(best, sample),
            "best_step": int(evaluation.best_step or 0),
            **{f"untrained_{name}": at_first[name] for name in ("timing_error", "right_counts")},
            **training_metrics(result),
        }
        figures = LazyFigures(lambda: self.make_figures(before, best, sample, result))
        return TaskResult(metrics, figures, model=best)

    def errors(self, net: EventNetwork, sample: PatternSample) -> dict[str, float]:
        """Errors of the spikes of a network by name, see `run`."""
        trains = self.predict(net, sample.in_times)
        first = jnp.minimum(trains[..., : self.n_spikes], self.t_max)
        right = jnp.sum(jnp.isfinite(trains), axis=-1) == self.n_spikes
        targets = jnp.asarray(sample.targets, trains.dtype)
        return {
            "timing_error": float(mae_time(first, targets, t_max=self.t_max)),
            "largest_error": float(jnp.max(jnp.abs(first - targets))),
            "right_counts": float(np.mean(right)),
            "van_rossum": float(van_rossum(trains, targets, tau=self.tau_mem)),
        }

    def make_figures(
        self, before: EventNetwork, best: EventNetwork, sample: PatternSample, result: FitResult
    ) -> dict[str, Any]:
        """Draw the figures, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import pattern

        models = {"before": before, "after": best}
        trained = [
            self.errors(eqx.tree_at(_weights, before, jnp.asarray(weights)), sample)
            for weights in result.snapshots
        ]
        named = {name: [one[name] for one in trained] for name in ("timing_error", "right_counts")}
        return {
            **{
                name: pattern.trains(
                    np.asarray(self.predict(model, sample.in_times)[0]),
                    sample.targets[0],
                    self.t_max,
                )
                for name, model in models.items()
            },
            "loss": plots.loss_curve(result.losses),
            "errors": pattern.errors(result.snapshot_steps, *named.values()),
        }


def _weights(net: Any) -> Array:
    """Weights of the synapses of a network."""
    return net.weights.weights


@eqx.filter_jit
def _trains(net: EventNetwork, in_times: Array, max_spikes: int) -> Array:
    """First spike times of the outputs."""
    return net.spikes(in_times.astype(net.weights.dtype), max_spikes, throw=False)
