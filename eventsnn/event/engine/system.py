"""The simulated hybrid system: its parts, and the effect of one event on it.

The event loop (forward) and the adjoints (backward) share these definitions. Every array has the
batch as its last axis, and the parameters of neurons broadcast against it (`add_batch_axis`).
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..flows import AbstractFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State, drivable

#: Tie tolerance, in units in the last place of the segment's length and of the gap. Crossings
#: closer to each other than this count as simultaneous. Neurons that receive the same inputs in a
#: different order differ by rounding, and must still tie.
TIE_ULPS = 16


class Readout(NamedTuple):
    """Quantity that is read in the segments of a simulation; by default none."""

    kind: Literal["state", "integral", "maximum"] = "state"
    outputs: tuple[int, ...] = ()


class Plan(NamedTuple):
    """Configuration of a simulation, fixed when the loop is compiled."""

    n: int
    n_sources: int
    outputs: tuple[int, ...]
    t_max: float
    max_events: int
    max_steps: int
    t_end: float  # end of the simulation: t_max, or later with pseudospikes
    stop_after: int | None = None  # spikes per output after which a sample stops; None: no limit
    capacity: int = 0  # with delays, number of slots for spikes in transit
    readout: Readout = Readout()  # by default nothing is read
    keep_states: bool = False  # record what a backward pass needs
    keep_end: bool = False  # return the state at the end


class Network(NamedTuple):
    """The network, shared by all samples of a batch.

    The last two rows of `weights` are zero, for `no_event_source` and `observation_source`.
    `delays` is inf in these rows and where there is no synapse. Axonal delays have one column. In
    the event loop the neuron's parameters have a batch axis.
    """

    flow: AbstractFlow
    neuron: AbstractNeuron
    weights: Float[Array, "rows columns"]
    delays: Float[Array, "rows receivers"] | None = None
    drive: Float[Array, "*neurons"] | None = None  # pseudospikes: constant current after t_max


def add_batch_axis(neuron: AbstractNeuron) -> AbstractNeuron:
    """Reshape parameters from (n,) to (n, 1), so that they broadcast against a batch."""
    return jax.tree.map(lambda x: x[:, None] if eqx.is_array(x) and x.ndim == 1 else x, neuron)


def apply_drive(network: Network, on: Bool[Array, " batch"] | None) -> Network:
    """Add the pseudospike current to the neurons, in the samples where `on` is true.

    Without pseudospikes the network is returned unchanged. The current has no gradient.
    """
    drive = network.drive
    if drive is None or on is None:
        return network
    drive = drive[:, None] if drive.ndim else drive[None, None]
    current = lax.stop_gradient(jnp.where(on, drive, 0.0))
    return network._replace(neuron=drivable(network.neuron).with_current(current))


def initial_state(neuron: AbstractNeuron, n: int, batch: int) -> State:
    """State of a batch at time 0; `neuron` has no batch axis."""
    state = neuron.normalise(neuron.init_state(n))
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], batch)), state)


def received(network: Network, source: Int[Array, " batch"]) -> Array | None:
    """Weights that an event delivers at once, one column per sample; None with delays."""
    return weight_rows(network.weights, source) if network.delays is None else None


def jump(
    neuron: AbstractNeuron, state: State, weights: Array | None, spiked: Bool[Array, "n batch"]
) -> State:
    """Apply an event to the state: deliver the received weights, then reset the spiking neuron."""
    if weights is not None:
        state = receive(neuron, state, weights)
    return neuron.normalise(neuron.reset(state, spiked))


def receive(neuron: AbstractNeuron, state: State, weights: Float[Array, "columns batch"]) -> State:
    """Deliver weights, ordered receptor by receptor, to the state."""
    if neuron.receptors > 1:
        weights = weights.reshape(neuron.receptors, -1, weights.shape[-1])
    return neuron.receive(state, weights)


def tie_tolerance(dt: Array, speed: Array, scale: Array) -> Array:
    """Rounding error of a gap at the end of a segment of length `dt`.

    `speed` is the speed at which the gap closes, and `scale` the scale of the gap.
    """
    return TIE_ULPS * jnp.finfo(dt.dtype).eps * (dt * jnp.abs(speed) + scale)


def gap_scale(neuron: AbstractNeuron, n: int) -> Float[Array, " n"]:
    """Scale of each neuron's gap: its size at time 0 or, if that is 0, its size after a reset."""
    start = neuron.normalise(neuron.init_state(n))
    gap = jnp.abs(neuron.threshold_gap(start))
    after = neuron.normalise(neuron.reset(start, jnp.ones((n,), bool)))
    return jnp.where(gap > 0, gap, jnp.abs(neuron.threshold_gap(after)))


def gap_and_speed(neuron: AbstractNeuron, state: State, velocity: State) -> tuple[Array, Array]:
    """Gap to the threshold, and the speed at which it closes."""
    gap, rate = jax.jvp(neuron.threshold_gap, (state,), (velocity,))
    return gap, -rate


def bounded_speed(
    neuron: AbstractNeuron, state: State, velocity: State, scale: Array, min_speed: float = 0.0
) -> tuple[Array, Array]:
    r"""Speed at which the gap closes at a crossing: as computed, and bounded from below.

    The bound is `min_speed` or, if it is larger, the speed that the rounding error
    $\delta$ of the gap can produce, $\sqrt{2 |a| \delta}$ with the deceleration $a$. Whether a
    slower neuron crosses its threshold at all depends on rounding errors: if its gap were larger by
    $\delta$, it would not.
    """
    _, speed = gap_and_speed(neuron, state, velocity)
    rounding = jnp.finfo(speed.dtype).eps * scale
    slowest = jnp.sqrt(2 * jnp.abs(_deceleration(neuron, state, velocity)) * rounding)
    return speed, jnp.maximum(speed, jnp.maximum(slowest, min_speed))


def reaches(
    neuron: AbstractNeuron, state: State, velocity: State, gap: Array, speed: Array
) -> Bool[Array, "*lanes"]:
    r"""Mask of the neurons that are about to cross their thresholds, or are past them and rising.

    The gap must be small. To second order, the gap after a time $t$ is
    $g - s t + \tfrac12 a t^2$ with the closing speed $s > 0$ and the deceleration $a$. It has a
    zero if and only if $2 a g \le s^2$. This excludes a potential that approaches its threshold
    and never reaches it, $g \propto e^{-t/\tau}$, for which $a g = s^2$.
    """
    deceleration = _deceleration(neuron, state, velocity)
    rises = speed > 0
    # As a ratio: squares could overflow.
    return rises & ((gap <= 0) | (2 * gap * (deceleration / jnp.where(rises, speed, 1.0)) <= speed))


def _deceleration(neuron: AbstractNeuron, state: State, velocity: State) -> Array:
    """Second derivative of the gap with respect to time."""

    def rate(state):
        return jax.jvp(neuron.threshold_gap, (state,), (neuron.vector_field(state),))[1]

    return jax.jvp(rate, (state,), (velocity,))[1]


def spiking(n: int, source: Int[Array, " batch"]) -> Bool[Array, "n batch"]:
    """Mask of the neuron that spikes, if the source of the event is a neuron."""
    return lax.broadcasted_iota(source.dtype, (n, source.size), 0) == source


def weight_rows(weights: Array, source: Int[Array, " batch"]) -> Float[Array, "n batch"]:
    """Row of weights of each sample's source, one column per sample."""
    return jnp.take(weights.T, source, axis=1, mode="clip")
