"""Membrane-potential regression in the event mode."""

import dataclasses
import itertools
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..constraints import constrain
from ..data import membrane
from ..event import LIF, EventNetwork, LeakyIntegrator, Populations, recurrent
from ..train import FitResult, fit
from .base import Outcome, Pictures, Task, finite_steps, option

_N_SHOWN = 401


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembraneEvent(Task):
    r"""Membrane-potential regression with a recurrent population of LIF neurons and one readout.

    The readout is a leaky integrator. The target of its membrane potential is a line or the square
    root of a line. This is the counterpart of `membrane-regression` in the event mode.

    The input encodes the time only: each input channel fires once, one channel after the other. The
    loss is the mean squared error at `num_steps` times, at which the membrane potential is computed
    in closed form (`EventNetwork.potentials_at`). The weights train, and so do the time constants
    of all membranes and synapses, which are kept positive by [`eventsnn.Positive`][].
    """

    name: ClassVar[str] = "membrane-event"
    summary: ClassVar[str] = "a membrane follows a curve, event mode, 20-40-1 recurrent LIF neurons"
    pictures: ClassVar[tuple[str, ...]] = ("before.png", "after.png", "loss.png", "raster.png")

    steps: int = option(2000, "gradient steps", kind="count")
    mode: str = option("sqrt", "the curve: a line, or its root", choices=("sqrt", "linear"))
    constants: str = option("learnt", "the time constants", choices=("learnt", "fixed"))

    learning_rate: float = 5e-2
    """Initial learning rate of Adam, which decays to 0 with a cosine schedule."""
    n_inputs: int = 20
    """Number of input channels."""
    n_hidden: int = 40
    """Number of LIF neurons in the population."""
    num_steps: int = 50
    """Number of times at which the membrane potential is compared with the target."""
    t_max: float = 100.0
    """Time limit of the simulation (ms)."""
    tau_mem: float = 20.0
    """Initial time constant of the membranes (ms)."""
    tau_syn: float = 5.0
    """Initial time constant of the synapses (ms)."""
    max_events: int = 400
    """Maximum number of events per sample."""

    def quick(self) -> Self:
        return dataclasses.replace(self, steps=10, n_hidden=10)

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

    def trainable(self, net: EventNetwork) -> EventNetwork:
        """Filter of trained parameters for `fit`: weights, and time constants if they train."""
        spec = eqx.tree_at(lambda net: net.weights, jax.tree.map(lambda _: False, net), True)
        if self.constants == "fixed":
            return spec
        raw = [constant.raw for constant in _time_constants(spec)]
        return eqx.tree_at(
            lambda net: [c.raw for c in _time_constants(net)], spec, [True] * len(raw)
        )

    def follow(self, net: EventNetwork, in_times: Array) -> Float[Array, "batch num_steps"]:
        """Membrane potential of the output at `times`."""
        return _membrane(net, in_times, jnp.asarray(self.times))

    def loss(self, net: EventNetwork, batch: tuple[Array, Array]) -> Float[Array, ""]:
        """Mean squared error of the membrane potential."""
        in_times, target = batch
        return jnp.mean((self.follow(net, in_times) - target) ** 2)

    def train(self, *, progress: bool = True) -> tuple[EventNetwork, tuple, FitResult]:
        """Train a network on one sample.

        **Returns:** the untrained network, the sample `(in_times, target)`, and the result of
        `fit`.
        """
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        net = self.build(key_net)
        _, curve = membrane.target(key_data, num_steps=self.num_steps, mode=self.mode)
        sample = self.in_times[None], np.asarray(curve)[None, :, 0]
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        fitted = fit(
            net,
            itertools.repeat(sample, self.steps),
            self.loss,
            finite_steps(optax.adam(rate)),
            steps=self.steps,
            filter_spec=self.trainable(net),
            progress=progress,
        )
        return net, sample, fitted

    def run(self, *, progress: bool = True) -> Outcome:
        """Train, test and draw.

        `relative_error` is the mean over time of |output - target| / |target|, without the first
        time, at which the target is 0. `l1` is the mean of |output - target|.
        """
        before, (in_times, target), fitted = self.train(progress=progress)
        follow = eqx.filter_jit(self.follow)
        error = np.abs(np.asarray(follow(fitted.model, in_times)) - target)
        metrics = {
            "relative_error": float(np.mean(error[:, 1:] / np.abs(target[:, 1:]))),
            "l1": float(np.mean(error)),
            "final_loss": float(fitted.losses[-1]),
            "steps_per_second": fitted.steps_per_second,
            "compile_seconds": fitted.compile_seconds,
            "devices_used": fitted.n_devices,
        }
        show = before, fitted, in_times, target[0]
        return Outcome(metrics, Pictures(lambda: self._figures(*show)))

    def _figures(self, before, fitted, in_times, target):
        from .. import plots  # matplotlib is slow to import, and training does not need it

        net, times = fitted.model, np.linspace(0.0, self.t_max, _N_SHOWN)
        target = np.interp(times, self.times, target)
        show = eqx.filter_jit(_membrane)
        traces = [np.asarray(show(n, in_times, jnp.asarray(times))[0]) for n in (before, net)]
        events = eqx.filter_jit(_events)(net, in_times[0])
        return {
            "before": plots.target_trace(times, target, traces[0], x_label="time (ms)"),
            "after": plots.target_trace(times, target, traces[1], x_label="time (ms)"),
            "loss": plots.loss_curve(fitted.losses),
            "raster": plots.raster(
                events.times,
                events.sources,
                n_neurons=net.n_neurons,
                outputs=net.outputs,
                t_max=self.t_max,
            ),
        }


def _membrane(net, in_times, times):
    return net.potentials_at(in_times, times, throw=False)[:, 0]


def _events(net, in_times):
    return net.simulate(in_times, throw=False)


def _time_constants(net):
    return [constant for part in net.neuron.parts for constant in (part.tau_mem, part.tau_syn)]
