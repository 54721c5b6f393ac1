"""Yin-yang: the output that fires first says which part of the figure a point belongs to."""

import dataclasses
from typing import ClassVar, Self

import jax
import optax
from jaxtyping import PRNGKeyArray

from ..event import LIF, QIF, EventNetwork, feedforward
from .base import option
from .points import PointsTask, Setup, normal, only

# The learning rate is multiplied by it after every epoch.
_DECAY = {"lif": 0.95, "qif": 1.0}

SETUPS = {
    "lif": Setup(
        n_hidden=200,
        batch_size=32,
        learning_rate=5e-3,
        alpha=3e-3,
        bias_time=15.0,
        t_max=40.0,
        drive=4.0,
        duration=20.0,
        max_events=200,
        max_steps=260,
    ),
    "qif": Setup(
        n_hidden=20,
        batch_size=256,
        learning_rate=5e-2,
        alpha=3e-3,
        bias_time=0.0,
        t_max=30.0,
        drive=0.0,
        duration=20.0,
        max_events=100,
        max_steps=200,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class YinYang(PointsTask):
    r"""Two feed-forward layers, trained on which output fires first.

    With `neuron="lif"` network and training are those of Wunderlich & Pehle (Scientific Reports
    11:12829, 2021, arXiv:2009.08378): weights are jumps of the current in units of the threshold,
    normally distributed with mean 1.5 and deviation 0.78 (hidden) and 0.93 and 0.1 (output). One
    spike of weight $w$ lifts a membrane by $0.157 w$ at most, so that a hidden neuron needs
    several. Three things differ. The fifth input fires amid the others, at 15 ms, and not before
    all of them at 0 (`bias_time=0.0`). The simulation has a time limit, 40 ms. And an output that
    is silent until then is driven by a current until it fires, see [`eventsnn.Pseudospikes`][]
    (`drive=0.0`: it is not), so that the right one can learn to fire. In an answer such a spike
    does not count.

    With `neuron="qif"` weights are uniform in [0, 40] and biases, which learn as well, in
    [-1/2, 1/2]. The fifth input fires at 0, and there are no pseudospikes.

    The points are those of the publication, which are the same for everybody, or fresh ones. The
    published test set is a little easier than fresh points are: `run` reports both accuracies.
    """

    name: ClassVar[str] = "yin-yang"
    summary: ClassVar[str] = "classes of points by the first spike, 5-200-3 LIF neurons"

    neuron: str = option("lif", "lif: 5-200-3 LIF; qif: 5-20-3 QIF", choices=SETUPS)

    def quick(self) -> Self:
        return dataclasses.replace(super().quick(), n_hidden=50)

    @property
    def default_setup(self) -> Setup:
        return SETUPS[self.neuron]

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        setup, constants = self.setup, (self.tau_mem, self.tau_syn)
        if self.neuron == "lif":
            neuron, init = LIF(*constants), (normal(1.5, 0.78), normal(0.93, 0.1))
        else:
            key, key_bias = jax.random.split(key)
            n = sum(self.sizes[1:])
            bias = jax.random.uniform(key_bias, (n,), minval=-0.5, maxval=0.5)
            neuron, init = QIF(*constants, bias=bias), jax.nn.initializers.uniform(40.0)
        return feedforward(
            neuron,
            sizes=self.sizes,
            init=init,
            key=key,
            t_max=setup.t_max,
            pseudospikes=self.pseudospikes(),
            max_events=setup.max_events,
            max_steps=setup.max_steps,
        )

    def trainable(self, net: EventNetwork) -> EventNetwork:
        """The filter for `fit`: true for the weights, and with QIF neurons for the biases."""
        if self.neuron == "lif":
            return only(net, lambda net: net.weights)
        return only(net, lambda net: (net.weights, net.neuron.bias))

    def optimizer(self) -> optax.GradientTransformation:
        rate, (_, epoch) = self.setup.learning_rate, self.n_steps()
        decay = _DECAY[self.neuron]
        return optax.adam(optax.exponential_decay(rate, epoch, decay, staircase=True))
