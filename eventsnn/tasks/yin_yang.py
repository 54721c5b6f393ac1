"""Yin-yang classification by the first output spike."""

import dataclasses
from typing import ClassVar, Self

import jax
import optax
from jaxtyping import PRNGKeyArray

from ..event import LIF, QIF, EventNetwork, feedforward
from .base import option
from .points import PointsTask, Setup, normal, only

# Factor of the learning rate per epoch.
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
    r"""Time-to-first-spike classification of yin-yang points by two feed-forward layers.

    With `neuron="lif"`, network and training are those of Wunderlich & Pehle (Scientific Reports
    11:12829, 2021, arXiv:2009.08378). Weights are jumps of the synaptic current in units of the
    threshold. Initial weights are normally distributed, with mean 1.5 and standard deviation 0.78
    (hidden), and with mean 0.93 and standard deviation 0.1 (output). One spike of weight $w$ raises
    a membrane potential by at most $0.157 w$, so a hidden neuron fires only after several input
    spikes. There are three differences from the paper:

    - The fifth input fires at 15 ms, among the other inputs. In the paper it fires at 0, before all
      other inputs (`bias_time=0.0`).
    - The simulation has a time limit of 40 ms.
    - A current drives an output that is silent until the time limit until it fires, see
      [`eventsnn.Pseudospikes`][]. The correct output can thus learn to fire. Predictions ignore
      these pseudospikes. `drive=0.0` disables them.

    With `neuron="qif"`, initial weights are uniform in [0, 40]. Biases are uniform in [-1/2, 1/2]
    and also train. The fifth input fires at 0, and there are no pseudospikes.

    The points are those of the publication, or new points for every seed. The published test set is
    slightly easier than new points. `run` reports both accuracies.
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
        """Filter of trained parameters for `fit`: the weights, and the biases of QIF neurons."""
        if self.neuron == "lif":
            return only(net, lambda net: net.weights)
        return only(net, lambda net: (net.weights, net.neuron.bias))

    def optimizer(self) -> optax.GradientTransformation:
        rate, (_, epoch) = self.setup.learning_rate, self.n_steps()
        decay = _DECAY[self.neuron]
        return optax.adam(optax.exponential_decay(rate, epoch, decay, staircase=True))
