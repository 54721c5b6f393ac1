"""Spike times for neurons that do not spike."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .. import checks
from .neurons import AbstractNeuron


class Pseudospikes(eqx.Module):
    r"""Lets the network go on beyond `t_max`, with an additional current, until its outputs fire.

    A neuron that is silent until `t_max` has no spike time and hence no gradient; if it is the one
    that should fire, it cannot learn to. With pseudospikes it has one, later than `t_max`: for
    $t > t_\text{max}$ there are no inputs any more, a constant current is added to
    every neuron, and the simulation ends once all outputs have fired (as often as was asked for).
    Spikes before `t_max` are what they were. A spike that moves across `t_max` does so
    continuously, and a whole network that is silent learns, since its hidden neurons fire in the
    end as well.

    Gradients are exact, as everywhere, for any neuron that can be driven
    (`AbstractNeuron.driven`, by default through its `bias`). `EventNetwork.ttfs` and
    `EventNetwork.spikes` then give times later than `t_max`; all other queries end at `t_max`.
    The current is a constant, and passes no gradient.

    Reference: Klos & Memmesheimer, *Smooth exact gradient descent learning in spiking neural
    networks*, Physical Review Letters 134:027301, 2025 (arXiv:2309.14523), whose pseudospikes are
    those of neurons by themselves.
    """

    drive: Float[Array, "*neurons"]
    duration: float = eqx.field(static=True)

    def __init__(self, drive: Float[ArrayLike, "*neurons"], duration: float):
        """**Arguments:**

        - `drive`: the current, a scalar or of shape `(n,)`, in the units of the neuron's bias. It
            should make a neuron at rest fire. (Of LIF neurons, one above their threshold.) To
            drive the outputs only is cheaper, but then a silent hidden neuron stays silent.
        - `duration`: for how long at most, > 0, in units of time. Who is silent even then has no
            spike time.

        **Raises:** `ValueError` for a drive that is not finite, or a duration that is not finite
        and positive.
        """
        self.drive = checks.parameter("drive", drive)
        self.duration = checks.positive("duration", duration)

    def fitted(self, n: int, neuron: AbstractNeuron) -> "Pseudospikes":
        """For `n` of these neurons.

        **Raises:** `ValueError` for a drive of another shape, or neurons that cannot be driven.
        """
        drive = _drive(self.drive, n)
        try:
            neuron.driven(jnp.zeros((), drive.dtype))
        except NotImplementedError as error:
            raise ValueError(
                f"pseudospikes must be None for neurons that cannot be driven, "
                f"got {checks.shown(self)}. {error}"
            ) from None
        return Pseudospikes(drive, self.duration)


def _drive(drive, n):
    name = "pseudospikes.drive"
    return checks.neuron_parameters({name: drive}, n, drive.dtype)[name]
