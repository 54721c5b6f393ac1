"""Convolutional layer."""

from collections.abc import Sequence
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from ... import checks
from ...constraints import unwrap
from ..adjoint import AbstractAdjoint
from ..flows import AbstractFlow
from ..neurons import AbstractNeuron
from ..pseudospikes import Pseudospikes
from .base import AbstractLayer, InTimes, dense_of
from .dense import Dense
from .linear import EventLinear
from .windows import windows


class EventConv2d(AbstractLayer):
    r"""Convolutional layer: an image of spike trains to an image of spike trains.

    Neuron $(o, y, x)$ receives `kernel[o, c, i, j]` when input channel
    $(c,\, y s_y + i - p_y,\, x s_x + j - p_x)$ fires, with the stride $s$ and the padding $p$. All
    positions share the kernel, as in `equinox.nn.Conv2d`. A position is simulated like a sample of
    an [`eventsnn.EventLinear`][] whose inputs are the channels of its window.

    In the shapes of the queries, the axes of the inputs are `(c_in, h, w)`, and those of the
    neurons are `(c_out, rows, columns)` with `rows = (h + 2 p_y - kh) // s_y + 1`, and `columns`
    likewise.
    """

    axes: ClassVar[int] = 3

    neuron: AbstractNeuron
    kernel: Float[Array, "out in kh kw"]
    mask: Bool[Array, "out in kh kw"] | None
    delays: Float[Array, "out in kh kw"] | None
    pseudospikes: Pseudospikes | None
    flow: AbstractFlow
    adjoint: AbstractAdjoint = eqx.field(static=True)
    t_max: float = eqx.field(static=True)
    max_spikes: int | None = eqx.field(static=True)
    truncate: bool = eqx.field(static=True)
    max_events: int | None = eqx.field(static=True)
    max_steps: int | None = eqx.field(static=True)
    stride: tuple[int, int] = eqx.field(static=True)
    padding: tuple[int, int] = eqx.field(static=True)
    _extra_steps: int = eqx.field(static=True)

    def __init__(
        self,
        neuron: AbstractNeuron,
        kernel: Real[ArrayLike, "out in kh kw"] | Sequence,
        mask: Bool[ArrayLike, "out in kh kw"] | Sequence | None = None,
        *,
        t_max: float,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        max_spikes: int | None = None,
        truncate: bool = False,
        delays: Real[ArrayLike, "out in kh kw"] | Sequence | None = None,
        pseudospikes: Pseudospikes | None = None,
        max_events: int | None = None,
        max_steps: int | None = None,
        solver: diffrax.AbstractSolver | AbstractFlow | None = None,
        dt0: float | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        adjoint: AbstractAdjoint | None = None,
    ):
        """**Arguments:**

        - `neuron`: neuron model with one receptor, for example [`eventsnn.LIF`][]. Its parameters
            are scalars or have shape `(c_out,)`.
        - `kernel`: synaptic weights, shape `(c_out, c_in, kh, kw)`. The simulation uses its dtype.
        - `mask`, `delays`: mask of the existing synapses and their delays, of the shape of
            `kernel`. None (the default): all synapses exist, without delays.
        - `stride`: distance between the windows of neighbouring neurons, one integer or two; 1 by
            default.
        - `padding`: number of silent rows and columns that are added to the image on each side, one
            integer or two; 0 by default.
        - `t_max`, `max_spikes`, `truncate`, `pseudospikes`, `max_events`, `max_steps`, `solver`,
            `dt0`, `stepsize_controller`, `adjoint`: as for [`eventsnn.EventLinear`][].

        **Raises:** `ValueError` for a stride < 1, a padding < 0, a kernel without four axes, a
        neuron with several receptors, and as [`eventsnn.EventLinear`][].
        """
        checks.instance("neuron", neuron, AbstractNeuron, "an eventsnn neuron model")
        if neuron.receptors != 1:
            raise ValueError(
                f"neuron must have one receptor in a convolution, got {neuron.receptors}."
            )
        self.kernel = checks.kernel("kernel", kernel)
        shape = self.kernel.shape
        self.mask = checks.mask_like(mask, shape, "kernel")
        self.delays = checks.delays(delays, (shape,), self.kernel.dtype)
        self.stride = checks.pair("stride", stride, 1)
        self.padding = checks.pair("padding", padding, 0)
        linear = EventLinear(
            neuron,
            jnp.zeros((shape[1] * shape[2] * shape[3], shape[0]), self.kernel.dtype),
            t_max=t_max,
            max_spikes=max_spikes,
            truncate=truncate,
            pseudospikes=pseudospikes,
            max_events=max_events,
            max_steps=max_steps,
            solver=solver,
            dt0=dt0,
            stepsize_controller=stepsize_controller,
            adjoint=adjoint,
        )
        self.neuron, self.flow, self.adjoint = linear.neuron, linear.flow, linear.adjoint
        self.pseudospikes = linear.pseudospikes
        self.t_max, self.max_spikes, self.truncate = (
            linear.t_max,
            linear.max_spikes,
            linear.truncate,
        )
        self.max_events, self.max_steps = linear.max_events, linear.max_steps
        self._extra_steps = linear._extra_steps

    def _dense(self) -> Dense:
        kernel, delays = unwrap((self.kernel, self.delays))
        mask, kernel, delays = jax.tree.map(
            lambda x: x.reshape(len(x), -1).T, (self.mask, kernel, delays)
        )
        return dense_of(self, kernel, mask, delays, self.pseudospikes, positions=2)

    def _received(
        self, in_times: InTimes, throw: bool
    ) -> Float[Array, "*batch rows columns inputs k"]:
        size = self.kernel.shape[2], self.kernel.shape[3]
        x = checks.image_of_trains(in_times, size, self.padding, self.kernel.shape[1], throw)
        x = windows(x.astype(self.kernel.dtype), size, self.stride, self.padding)
        return lax.collapse(x, -4, -1)

    def _arranged(self, out: Any, trailing: int) -> Any:
        return jnp.moveaxis(out, -1 - trailing, -3 - trailing)
