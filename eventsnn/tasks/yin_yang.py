"""Yin-yang classification by the first output spike."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import optax
from jaxtyping import PRNGKeyArray

from ..event import LIF, QIF, EventProp, EventSequential, feedforward, trainable
from .base import skip_nonfinite_updates
from .points import PointsTask, normal
from .settings import option

__all__ = ["YinYang"]

# Factor of the learning rate per epoch.
_DECAY = {"lif": 0.95, "qif": 1.0}

_SETTINGS = {
    "lif": dict(
        n_hidden=200,
        batch_size=32,
        learning_rate=5e-3,
        alpha=3e-3,
        bias_time=15.0,
        t_max=40.0,
        drive=4.0,
        drive_duration=20.0,
        max_events=200,
        max_steps=260,
        min_speed=5e-3,
    ),
    "qif": dict(
        n_hidden=20,
        batch_size=256,
        learning_rate=5e-2,
        alpha=3e-3,
        bias_time=0.0,
        t_max=30.0,
        drive=0.0,
        drive_duration=20.0,
        max_events=100,
        max_steps=200,
        min_speed=0.0,
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
    spikes. There are four differences from the paper:

    - The fifth input fires at 15 ms, among the other inputs. In the paper it fires at 0, before all
      other inputs (`bias_time=0.0`).
    - The simulation has a time limit of 40 ms.
    - A current drives an output that is silent until the time limit until it fires, see
      [`eventsnn.Pseudospikes`][]. The correct output can thus learn to fire. Predictions ignore
      these pseudospikes. `drive=0.0` disables them.
    - Gradients have the lower bound `min_speed` of the speed at which potentials reach the
      threshold, see [`eventsnn.EventProp`][]. A spike whose potential only just reaches it has a
      very large gradient, and moves all weights of its neuron by many steps of Adam. Without the
      bound, one of ten runs ended with most hidden neurons silent.

    With `neuron="qif"`, initial weights are uniform in [0, 40]. Biases are uniform in [-1/2, 1/2]
    and also train. The fifth input fires at 0, and there are no pseudospikes.

    The points are those of the publication, or new points for every seed. The published test set is
    slightly easier than new points. `run` reports both accuracies.
    """

    name: ClassVar[str] = "yin-yang"
    summary: ClassVar[str] = "classification of points by the first spike, 5-200-3 LIF neurons"

    quick_settings: ClassVar[dict[str, Any]] = PointsTask.quick_settings | {"n_hidden": 50}

    neuron: str = option(
        "lif",
        "neuron model; lif: leaky integrate-and-fire; qif: quadratic integrate-and-fire",
        choices=_SETTINGS,
    )

    max_spikes: int = option(10, "maximum number of spikes per hidden neuron")
    min_speed: float = option(
        None,
        "lower bound of the speed at the threshold in gradients, in thresholds per ms; 0: none",
        least=0,
    )

    def defaults(self) -> Mapping[str, Any]:
        return {**super().defaults(), **_SETTINGS[self.neuron]}

    def build(self, key: PRNGKeyArray) -> EventSequential:
        constants = self.tau_mem, self.tau_syn
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
            t_max=self.t_max,
            max_spikes=self.max_spikes,
            pseudospikes=self.pseudospikes(),
            adjoint=EventProp(self.min_speed),
        )

    def trainable(self, model: EventSequential) -> EventSequential:
        """Filter of the trained parameters: the weights, and the biases of QIF neurons."""
        return trainable(model, "weights", *(["bias"] if self.neuron == "qif" else []))

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        """Adam with a learning rate that decays after every epoch (LIF) or is constant (QIF)."""
        rate = optax.exponential_decay(
            self.learning_rate, steps_per_epoch, _DECAY[self.neuron], staircase=True
        )
        return skip_nonfinite_updates(optax.adam(rate))
