"""Yin-yang classification with a small hidden layer and trained delays."""

import dataclasses
from collections.abc import Hashable
from typing import ClassVar

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..constraints import constrain, unwrap
from ..data.yin_yang import YinYangData
from ..event import LIF, EventNetwork, feedforward
from ..train import FitResult
from .base import MAX_EPOCHS, option
from .points import PointsTask, Setup, history, normal, only

DELAYS = ("learnt", "fixed", "none")
KINDS = ("synaptic", "axonal")
SETUP = Setup(
    n_hidden=30,
    batch_size=32,
    learning_rate=5e-3,
    alpha=1e-3,
    bias_time=15.0,
    t_max=60.0,
    drive=4.0,
    duration=20.0,
    max_events=100,
    max_steps=140,
)
# Without delays, the smaller penalty of `SETUP` leads to outputs that fire only pseudospikes.
_ALPHA_WITHOUT = 3e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delays(PointsTask):
    r"""Time-to-first-spike classification of yin-yang points, with 30 hidden neurons and delays.

    The task asks how much trained delays improve a hidden layer of 30 neurons, the question of
    Göltz et al. (*DelGrad*, arXiv:2404.19165). The set-up differs from that paper. Neurons,
    inputs, pseudospikes and loss are as in [`YinYang`][], and neurons may fire more than once. The
    differences from [`YinYang`][] are:

    - Every synapse has its own delay, with an initial value uniform in `delay_range` (ms). Delays
      are wrapped by [`eventsnn.Positive`][]. With `kind="axonal"`, all synapses of a source share
      one delay.
    - Initial weights are normally distributed, with mean 2.2 and standard deviation 0.8 (hidden),
      and with mean 1.5 and standard deviation 0.8 (output). Nearly every hidden neuron then fires.
      A neuron that never fires receives no gradient, and with only 30 hidden neurons none can be
      wasted.
    - The simulation ends at 60 ms, since spikes come later with delays.
    - Weights and delays have separate learning rates, which decay to 0 with a cosine schedule, and
      gradients are clipped.
    - The weight `alpha` of the penalty for late spikes is a third of its value there.

    With `delays="fixed"`, delays keep their initial values. With `delays="none"` there are no
    delays, `alpha` is as in [`YinYang`][], and everything else is the same.
    """

    name: ClassVar[str] = "delays"
    summary: ClassVar[str] = "classes of points by the first spike, 30 LIF neurons with delays"
    pictures: ClassVar[tuple[str, ...]] = (*PointsTask.pictures, "delays.png")

    epochs: int = option(100, "passes through the data", kind="count", most=MAX_EPOCHS)
    delays: str = option("learnt", "learnt, drawn and kept (fixed), or none", choices=DELAYS)
    kind: str = option(
        "synaptic", "one delay per synapse, or one per source (axonal)", choices=KINDS
    )

    delay_range: tuple[float, float] = (0.5, 10.0)
    """Smallest and largest initial delay (ms)."""
    delay_learning_rate: float = 0.1
    """Initial learning rate of the delays. `learning_rate` is that of the weights."""
    clip: float = 0.5
    """Maximum norm of the gradient with respect to all trained parameters."""
    queue_capacity: int = 40
    """Maximum number of spikes of neurons in transit at the same time."""

    @property
    def default_setup(self) -> Setup:
        if self.delays == "none":
            return dataclasses.replace(SETUP, alpha=_ALPHA_WITHOUT)
        return SETUP

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        setup, (key_weights, key_delays) = self.setup, jax.random.split(key)
        net = feedforward(
            LIF(self.tau_mem, self.tau_syn),
            sizes=self.sizes,
            init=(normal(2.2, 0.8), normal(1.5, 0.8)),
            key=key_weights,
            t_max=setup.t_max,
            delays=self._initial_delays(key_delays),
            pseudospikes=self.pseudospikes(),
            max_events=setup.max_events,
            max_steps=setup.max_steps,
            queue_capacity=self.queue_capacity,
        )
        return net if self.delays == "none" else constrain(net, lambda net: net.delays)

    def trainable(self, net: EventNetwork) -> EventNetwork:
        """Filter of trained parameters for `fit`: the weights, and the delays if they train."""
        if self.delays == "learnt":
            return only(net, lambda net: (net.weights, net.delays))
        return only(net, lambda net: net.weights)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with separate learning rates for weights and delays, which decay to 0.

        Gradients are clipped first: if a membrane potential only just reaches the threshold, the
        gradient of one sample can exceed the gradients of all others.
        """
        steps, _ = self.n_steps()
        rates = {"weights": self.setup.learning_rate, "delays": self.delay_learning_rate}
        adams: dict[Hashable, optax.GradientTransformation] = {
            name: optax.adam(optax.cosine_decay_schedule(rate, steps))
            for name, rate in rates.items()
        }
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.partition(adams, _names))

    def figures(self, fitted: FitResult, data: YinYangData, accuracies: list[float]) -> dict:
        from .. import plots

        figures = super().figures(fitted, data, accuracies)
        if self.delays != "none":
            before, after = map(_by_layer, (next(history(fitted)), fitted.model))
            figures["delays"] = plots.weights(before, after)
        return figures

    def _initial_delays(self, key: PRNGKeyArray) -> Float[Array, " sources *neurons"] | None:
        if self.delays == "none":
            return None
        n, (low, high) = sum(self.sizes[1:]), self.delay_range
        shape = (n + self.sizes[0],) + ((n,) if self.kind == "synaptic" else ())
        return jax.random.uniform(key, shape, minval=low, maxval=high)


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
