"""Pseudospikes: spike times for output neurons that are silent until `t_max`."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .. import checks
from .neurons import AbstractNeuron
from .neurons.base import drivable


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
    later than `t_max`. All other queries end at `t_max`. The current is a constant and has no
    gradient.

    Reference: Klos & Memmesheimer, *Smooth exact gradient descent learning in spiking neural
    networks*, Physical Review Letters 134:027301, 2025 (arXiv:2309.14523). The paper defines
    pseudospikes for isolated neurons.
    """

    drive: Float[Array, "*neurons"]
    duration: float = eqx.field(static=True)

    def __init__(self, drive: Float[ArrayLike, "*neurons"], duration: float):
        """**Arguments:**

        - `drive`: current after `t_max`, a scalar or of shape `(n,)`, in the units of the neuron's
            bias. It should make a neuron at its resting potential fire. For LIF neurons this
            requires a current above the threshold. Driving only the outputs is cheaper, but then
            silent hidden neurons remain silent.
        - `duration`: maximum simulation time after `t_max`, > 0, in units of time. Outputs that
            are silent even then have no spike time (`inf`).

        **Raises:** `ValueError` for a drive that is not finite, or a duration that is not finite
        and positive.
        """
        self.drive = checks.parameter("drive", drive)
        self.duration = checks.positive("duration", duration)

    def for_population(self, n: int, neuron: AbstractNeuron) -> "Pseudospikes":
        """Return the pseudospikes for `n` neurons of the model `neuron`.

        **Raises:** `ValueError` for a drive of another shape, or neurons that cannot be driven.
        """
        drive = _drive(self.drive, n)
        try:
            drivable(neuron).with_current(jnp.zeros((), drive.dtype))
        except ValueError as error:
            raise ValueError(
                f"pseudospikes must be None for neurons that cannot be driven, "
                f"got {checks.short_repr(self)}. {error}"
            ) from None
        return Pseudospikes(drive, self.duration)


def _drive(drive, n):
    name = "pseudospikes.drive"
    return checks.neuron_parameters({name: drive}, n, drive.dtype)[name]
