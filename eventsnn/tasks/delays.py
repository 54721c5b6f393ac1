"""Yin-yang classification with a small hidden layer and trained delays."""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..constraints import constrain, unwrap
from ..data.yin_yang import YinYangData
from ..event import LIF, EventNetwork, feedforward_network, trainable
from ..train import FitResult
from .base import skip_nonfinite_updates
from .epochs import snapshot_models
from .points import PointsTask, normal
from .settings import option

__all__ = ["Delays"]

_DELAYS = ("learnt", "fixed", "none")
_KINDS = ("synaptic", "axonal")
_SETTINGS = dict(
    n_hidden=30,
    batch_size=32,
    learning_rate=5e-3,
    alpha=1e-3,
    bias_time=15.0,
    t_max=60.0,
    drive=4.0,
    drive_duration=20.0,
    max_events=100,
    max_steps=140,
)
# Without delays, the smaller `alpha` of `_SETTINGS` leads to outputs that fire only pseudospikes.
_ALPHA_WITHOUT_DELAYS = 3e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delays(PointsTask):
    r"""Time-to-first-spike classification of yin-yang points, with 30 hidden neurons and delays.

    The task measures how much trained delays improve the accuracy of a network with 30 hidden
    neurons, as Göltz et al. do (*DelGrad*, arXiv:2404.19165). The set-up differs from that paper.
    Neurons, inputs, pseudospikes and loss are as in [`YinYang`][], and neurons may fire more than
    once. The differences from [`YinYang`][] are:

    - Every synapse has its own delay, with an initial value uniform between `delay_min` and
      `delay_max` (ms). Delays are wrapped by [`eventsnn.Positive`][]. With
      `delay_kind="axonal"`, all synapses of a source share one delay.
    - Initial weights are normally distributed, with mean 2.2 and standard deviation 0.8 (hidden),
      and with mean 1.5 and standard deviation 0.8 (output). Nearly every hidden neuron then fires.
      A neuron that never fires receives no gradient, and all 30 hidden neurons are needed.
    - The time limit is 60 ms, since spikes occur later with delays.
    - Weights and delays have separate learning rates, which decay to 0 with a cosine schedule, and
      gradients are clipped.
    - The weight `alpha` of the penalty for late spikes is a third of its value in [`YinYang`][].

    With `delays="fixed"`, delays keep their initial values. With `delays="none"` there are no
    delays, `alpha` is as in [`YinYang`][], and everything else is the same.
    """

    name: ClassVar[str] = "delays"
    summary: ClassVar[str] = (
        "classification of points by the first spike, 30 LIF neurons with delays"
    )
    pictures: ClassVar[tuple[str, ...]] = (*PointsTask.pictures, "delays.png")

    delays: str = option(
        "learnt",
        "transmission delays; learnt: random initial delays that are trained with the weights; "
        "fixed: random delays that are not trained; none: a network without delays",
        choices=_DELAYS,
    )
    delay_kind: str = option(
        "synaptic",
        "kind of the delays; synaptic: one delay per synapse; axonal: one delay per source, the "
        "same for all of its synapses",
        choices=_KINDS,
    )
    delay_min: float = option(0.5, "smallest initial delay, in ms", above=0)
    delay_max: float = option(10.0, "largest initial delay, in ms", above=0)
    delay_learning_rate: float = option(
        0.1, "initial learning rate of the delays; --learning-rate: of the weights", least=0
    )
    clip_norm: float = option(
        0.5,
        "norm to which a larger gradient with respect to all trained parameters is clipped",
        above=0,
    )
    queue_capacity: int = option(
        40, "maximum number of spikes of neurons in transit at the same time"
    )

    def defaults(self) -> Mapping[str, Any]:
        without = {"alpha": _ALPHA_WITHOUT_DELAYS} if self.delays == "none" else {}
        return {**super().defaults(), **_SETTINGS, **without}

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        key_weights, key_delays = jax.random.split(key)
        net = feedforward_network(
            LIF(self.tau_mem, self.tau_syn),
            sizes=self.sizes,
            init=(normal(2.2, 0.8), normal(1.5, 0.8)),
            key=key_weights,
            t_max=self.t_max,
            delays=self._initial_delays(key_delays),
            pseudospikes=self.pseudospikes(),
            max_events=self.max_events,
            max_steps=self.max_steps,
            queue_capacity=self.queue_capacity,
        )
        return net if self.delays == "none" else constrain(net, lambda net: net.delays)

    def trainable(self, model: EventNetwork) -> EventNetwork:
        """Filter of the trained parameters: the weights, and the delays if they are learnt."""
        return trainable(model, "weights", *(["delays"] if self.delays == "learnt" else []))

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        """Adam with separate learning rates for weights and delays, which decay to 0.

        Gradients are clipped first: if a membrane potential only just reaches the threshold, the
        gradient of one sample can exceed the gradients of all others.
        """
        rates = {"weights": self.learning_rate, "delays": self.delay_learning_rate}
        adams: dict[Hashable, optax.GradientTransformation] = {
            name: optax.adam(optax.cosine_decay_schedule(rate, steps))
            for name, rate in rates.items()
        }
        clip = optax.clip_by_global_norm(self.clip_norm)
        return skip_nonfinite_updates(optax.chain(clip, optax.partition(adams, _names)))

    def make_figures(self, result: FitResult, data: YinYangData, accuracies: list[float]) -> dict:
        from .. import plots

        figures = super().make_figures(result, data, accuracies)
        if self.delays != "none":
            before, after = map(_by_layer, (next(snapshot_models(result)), result.model))
            figures["delays"] = plots.weights(before, after)
        return figures

    def _initial_delays(self, key: PRNGKeyArray) -> Float[Array, " sources *neurons"] | None:
        if self.delays == "none":
            return None
        if self.delay_min > self.delay_max:
            raise ValueError(
                f"delay_min must be at most delay_max = {self.delay_max}, got {self.delay_min}."
            )
        n = sum(self.sizes[1:])
        shape = (n + self.sizes[0],) + ((n,) if self.delay_kind == "synaptic" else ())
        return jax.random.uniform(key, shape, minval=self.delay_min, maxval=self.delay_max)


def _names(trained: EventNetwork) -> EventNetwork:
    """Pytree with the name of the learning rate of each trained parameter."""
    names = jax.tree.map(lambda _: "weights", trained)
    if trained.delays is None:
        return names
    return eqx.tree_at(lambda net: net.delays, names, "delays")


def _by_layer(net: EventNetwork) -> dict[str, np.ndarray]:
    """Delays of the existing synapses by layer (ms)."""
    delays, first = np.asarray(unwrap(net).delays), net.outputs[0]
    inputs, hidden = delays[net.n_neurons :], delays[:first]
    if delays.ndim == 2:
        inputs, hidden = inputs[:, :first], hidden[:, first:]
    # In the layout of weight matrices: one row per receiving neuron.
    return {"inputs to hidden (ms)": inputs.T, "hidden to outputs (ms)": hidden.T}
