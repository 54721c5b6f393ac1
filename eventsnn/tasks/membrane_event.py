"""Membrane-potential regression in the event mode."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, PRNGKeyArray

from ..constraints import constrain
from ..event import LIF, EventNetwork, LeakyIntegrator, Populations, recurrent, trainable
from .base import skip_nonfinite_updates
from .curves import CurveTask
from .settings import option

__all__ = ["MembraneEvent"]

_N_SHOWN = 401


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembraneEvent(CurveTask):
    r"""Membrane-potential regression with a recurrent population of LIF neurons and one readout.

    The readout is a leaky integrator. The target of its membrane potential is a line or the square
    root of a line. This is the counterpart of `membrane-regression` in the event mode.

    The input encodes the time only: each input channel fires once, one channel after the other. The
    loss is the mean squared error at `num_steps` times, at which the membrane potential is computed
    in closed form (`EventNetwork.potentials_at`). The weights train, and so do the time constants
    of all membranes and synapses, which are kept positive by [`eventsnn.Positive`][].
    """

    name: ClassVar[str] = "membrane-event"
    summary: ClassVar[str] = (
        "regression of a membrane potential, event mode, 20-40-1 recurrent LIF neurons"
    )
    input_shape: ClassVar[tuple[int | str, ...]] = ("n", "n_inputs", "k")
    quick_settings: ClassVar[dict[str, Any]] = {"steps": 10, "n_hidden": 10}
    time_label: ClassVar[str] = "time (ms)"

    time_constants: str = option(
        "learnt",
        "time constants of membranes and synapses; learnt: trained with the weights; fixed: not "
        "trained",
        choices=("learnt", "fixed"),
    )
    n_inputs: int = option(20, "number of input channels, each with one spike")
    n_hidden: int = option(40, "number of LIF neurons in the recurrent population")
    tau_mem: float = option(20.0, "initial time constant of the membranes, in ms", above=0)
    tau_syn: float = option(5.0, "initial time constant of the synapses, in ms", above=0)
    t_max: float = option(
        100.0, "time limit of the simulation, and end of the curve, in ms", above=0
    )
    max_events: int = option(400, "maximum number of events per sample")

    def defaults(self):
        return {"steps": 2000, "learning_rate": 5e-2}

    @property
    def times(self) -> Float[np.ndarray, " num_steps"]:
        """Times at which the membrane potential is evaluated (ms)."""
        return np.linspace(0.0, self.t_max, self.num_steps)

    @property
    def in_times(self) -> Float[np.ndarray, "n_inputs 1"]:
        """Input spike times, one per channel, evenly spaced from 0 (ms)."""
        return np.linspace(0.0, self.t_max, self.n_inputs, endpoint=False)[:, None]

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """Build the untrained network."""
        n = self.n_hidden
        hidden = LIF(jnp.full(n, self.tau_mem), jnp.full(n, self.tau_syn))
        output = LeakyIntegrator(self.tau_mem, self.tau_syn)
        net = recurrent(
            Populations([(hidden, n), (output, 1)]),
            inputs=self.n_inputs,
            hidden=n,
            outputs=1,
            init=self._weights,
            key=key,
            t_max=self.t_max,
            max_events=self.max_events,
        )
        return constrain(net, _time_constants)

    def _weights(self, key, shape, dtype):
        """Initial weights. Inputs have large weights: one input spike sometimes elicits a spike."""
        drawn = jax.random.normal(key, shape, dtype) * 0.2
        return drawn.at[self.n_hidden + 1 :].multiply(20.0)

    def trainable(self, model):
        """Filter of the trained parameters: weights, and time constants if they are learnt."""
        names = ("tau_mem", "tau_syn") if self.time_constants == "learnt" else ()
        return trainable(model, "weights", *names)

    def optimizer(self):
        """Adam with a learning rate that decays to 0 with a cosine schedule."""
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return skip_nonfinite_updates(optax.adam(rate))

    def inputs(self, ramp):
        """Input spike times, which encode the time only."""
        return self.in_times

    def potential(self, model, inputs):
        return _membrane(model, inputs, jnp.asarray(self.times))

    def trace(self, model, inputs, target):
        times = np.linspace(0.0, self.t_max, _N_SHOWN)
        output = eqx.filter_jit(_membrane)(model, inputs, jnp.asarray(times))
        return times, np.interp(times, self.times, target), np.asarray(output[0])

    def raster(self, model, inputs):
        from .. import plots  # matplotlib is slow to import, and training does not need it

        events = eqx.filter_jit(_events)(model, inputs[0])
        return plots.raster(
            events.times,
            events.sources,
            n_neurons=model.n_neurons,
            outputs=model.outputs,
            t_max=self.t_max,
        )


def _membrane(net, in_times, times):
    return net.potentials_at(in_times, times, throw=False)[:, 0]


def _events(net, in_times):
    return net.simulate(in_times, throw=False)


def _time_constants(net):
    return [constant for part in net.neuron.parts for constant in (part.tau_mem, part.tau_syn)]
