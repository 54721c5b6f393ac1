"""Pseudospikes: spike times for output neurons that are silent until `t_max`."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from .. import checks
from .neurons import AbstractDrivable, AbstractNeuron
from .neurons.base import drivable

# Default duration, in units of t_max.
_DURATION = 10.0


class Pseudospikes(eqx.Module):
    r"""Spike times after `t_max` for silent outputs: the simulation continues with extra current.

    A neuron that is silent until `t_max` has no spike time and hence no gradient. If it should
    fire, it cannot learn to do so. With pseudospikes it has a spike time later than `t_max`: for
    $t > t_\text{max}$ no input spikes are sent, a constant current is added to every neuron, and
    the simulation ends once all outputs have fired as often as the query requires. Spikes before
    `t_max` do not change. A spike time that moves across `t_max` does so continuously. A network
    that is silent as a whole can learn, since its hidden neurons fire after `t_max` as well.

    Gradients are exact for any neuron model that is an [`eventsnn.AbstractDrivable`][]; most models
    add the current to their `bias`. `EventNetwork.ttfs` and `EventNetwork.spikes` then return times
    later than `t_max`. All other queries end at `t_max`, see also `at_t_max`. The current is a
    constant and has no gradient.

    Reference: Klos & Memmesheimer, *Smooth exact gradient descent learning in spiking neural
    networks*, Physical Review Letters 134:027301, 2025 (arXiv:2309.14523). The paper defines
    pseudospikes for isolated neurons.
    """

    drive: Float[Array, "*neurons"] | None
    duration: float | None = eqx.field(static=True)
    at_t_max: bool = eqx.field(static=True)

    def __init__(
        self,
        drive: Float[ArrayLike, "*neurons"] | None = None,
        duration: float | None = None,
        *,
        at_t_max: bool = False,
    ):
        """**Arguments:**

        - `drive`: current after `t_max`, a scalar or of shape `(n,)`, in the units of the neuron's
            bias. It should make a neuron at its resting potential fire. For LIF neurons this
            requires a current above the threshold. Driving only the outputs is cheaper, but then
            silent hidden neurons remain silent. Default: None, twice the rheobase of the neurons,
            the smallest current with which they fire. It follows their parameters, so that neurons
            whose bias or threshold is trained are always driven enough.
        - `duration`: maximum simulation time after `t_max`, > 0, in units of time. Outputs that
            are silent even then have no spike time (`inf`). A longer duration costs time only in
            samples that need it. Default: None, 10 times `t_max`, after which a LIF neuron has
            recovered from any inhibition if `t_max` is at least its membrane time constant.
        - `at_t_max`: whether the spikes after `t_max` are returned with a time just below `t_max`
            instead of their own, with the gradient of their own. It is for a hidden layer before a
            readout: a spike at `t_max` has no effect on the potentials until `t_max`, but the
            potentials at `t_max` have a gradient with respect to its time, so that silent neurons
            learn. The integrals of the potentials have no such gradient. In an `EventNetwork`, the
            first pseudospikes of hidden neurons, which are no outputs, reach the outputs at `t_max`
            without delay: `potentials_at` and `maxima` have their gradients. Default: False.

        **Raises:** `ValueError` for a drive that is not finite, or a duration that is not finite
        and positive.
        """
        self.drive = None if drive is None else checks.parameter("drive", drive)
        self.duration = None if duration is None else checks.positive("duration", duration)
        self.at_t_max = checks.flag("at_t_max", at_t_max)

    def end(self, t_max: float) -> float:
        """Return the end of the simulation."""
        return t_max + (_DURATION * t_max if self.duration is None else self.duration)

    def current(self, neuron: AbstractNeuron) -> Float[Array, "*neurons"]:
        """Current for the neurons in `neuron`, without a gradient if no drive was given."""
        if self.drive is not None:
            return self.drive
        return lax.stop_gradient(_default_drive(drivable(neuron)))

    def for_population(self, n: int, neuron: AbstractNeuron) -> "Pseudospikes":
        """Return the pseudospikes for `n` neurons of the model `neuron`.

        **Raises:** `ValueError` for a drive of another shape, or neurons that cannot be driven.
        """
        try:
            driven = drivable(neuron)
            driven.with_current(jnp.zeros(()))
        except ValueError as error:
            raise ValueError(
                f"pseudospikes must be None for neurons that cannot be driven, "
                f"got {checks.short_repr(self)}. {error}"
            ) from None
        if self.drive is None:
            _default_drive(driven)  # raises for models without one
            return self
        return Pseudospikes(_drive(self.drive, n), self.duration, at_t_max=self.at_t_max)

    def returned(self, times: Float[Array, "..."], t_max: float) -> Float[Array, "..."]:
        """Return the spike times `times` as a query returns them, see `at_t_max`."""
        if not self.at_t_max:
            return times
        last = jnp.nextafter(jnp.asarray(t_max, times.dtype), jnp.zeros((), times.dtype))
        late = (times > t_max) & (times < jnp.inf)
        return jnp.where(late, times + lax.stop_gradient(last - times), times)


def _default_drive(neuron: AbstractDrivable) -> Float[Array, "*neurons"]:
    """Twice the rheobase; 0 for neurons that fire without current, or never."""
    rheobase = neuron.rheobase()
    return 2 * jnp.where(rheobase < jnp.inf, jnp.maximum(rheobase, 0.0), 0.0)


def _drive(drive, n):
    name = "pseudospikes.drive"
    return checks.neuron_parameters({name: drive}, n, drive.dtype)[name]
