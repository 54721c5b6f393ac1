r"""Initial weights with which neurons fire, for any neuron model.

The *critical drive* $W$ of a neuron is the total weight of input spikes, evenly spread over the
first half of the simulation, with which it fires at the end of that half. It is found by
simulation. In units of $W$ the same weights suit every neuron model, threshold, time constant and
unit: a neuron that receives $n$ input spikes has a drive of mean $n \mu$ and standard deviation
$\sqrt{n}\, \sigma$ for weights of mean $\mu$ and standard deviation $\sigma$.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from .. import checks
from .layers import EventLinear
from .neurons import AbstractNeuron, Populations

#: Initialiser of weights as in `jax.nn.initializers`: `init(key, shape, dtype)`.
Initializer = Callable[..., Float[Array, "..."]]

#: Default mean and standard deviation of the drive, in units of the critical drive.
MEAN, DEVIATION = 1.0, 1.0
#: Variance of the drive by recurrent synapses, relative to the variance of the drive by inputs.
RECURRENT = 0.01

# Input spikes of the simulation.
_SPIKES = 32
# The search multiplies the drive by 4 up to 20 times, from 1e-6 to 1e6, and then bisects 10 times.
_SMALLEST, _LARGEST, _STEP, _ITERATIONS = 1e-6, 1.1e6, 4.0, 30


def normal(
    neuron: AbstractNeuron,
    *,
    t_max: float,
    mean: float = MEAN,
    deviation: float = DEVIATION,
    window: float | None = None,
) -> Initializer:
    r"""Initialiser with normally distributed weights, in units of the critical drive.

    $$w \sim \mathcal{N}\left(\frac{\text{mean} \cdot W}{n},
    \left(\frac{\text{deviation} \cdot W}{\sqrt n}\right)^2\right)$$

    with the [`critical_drive`][] $W$ of the neuron and the number $n$ of its inputs. The drive of a
    neuron is the sum of the weights of all input spikes. If each input fires once within the
    window, the drive has a mean of `mean` times $W$ over all neurons, and a standard deviation of
    `deviation` times $W$. With a deviation of at least the mean, neurons respond to different
    inputs: firing is driven by fluctuations (Rossbroich, Gygax & Zenke, Neuromorphic
    Computing and Engineering 2:044016, 2022, arXiv:2206.10226).

    **Arguments:**

    - `neuron`, `t_max`, `window`: as for [`critical_drive`][].
    - `mean`, `deviation`: mean and standard deviation of the drive, dimensionless. Both are 1
        by default.

    **Returns:** an initialiser as in `jax.nn.initializers`, `init(key, shape, dtype)`. `shape` is
    `(inputs, neurons)`, or `(channels_out, channels_in, height, width)` for the kernel of an
    [`eventsnn.EventConv2d`][].

    **Raises:** as [`critical_drive`][], and `ValueError` for a `mean` that is not finite or a
    `deviation` < 0.
    """
    mean, deviation = checks.number("mean", mean), checks.not_negative("deviation", deviation)
    drive = critical_drive(neuron, t_max=t_max, window=window)

    def init(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = float) -> Array:
        kernel = len(shape) > 2
        inputs = int(np.prod(shape[1:] if kernel else shape[:1]))
        unit = drive.reshape(-1, 1, 1, 1) if kernel and drive.ndim else drive
        draws = jax.random.normal(key, shape, dtype)
        scale = unit.astype(draws.dtype) / max(inputs, 1)
        return scale * (mean + deviation * inputs**0.5 * draws)

    return init


def critical_drive(
    neuron: AbstractNeuron, *, t_max: float, window: float | None = None
) -> Float[Array, "*neurons"]:
    """Total weight of evenly spread input spikes with which a neuron fires at their end.

    A neuron that also fires without input, such as a [`eventsnn.QIF`][] neuron with a large bias,
    has the drive with which it fires twice as early as without. A neuron that never fires, such as
    a [`eventsnn.LeakyIntegrator`][], has the drive that raises its potential by 1 at most.

    **Arguments:**

    - `neuron`: neuron model. Its parameters are scalars or have shape `(n,)`.
    - `t_max`: time limit of the simulation, > 0, in units of time.
    - `window`: time during which the input spikes arrive, in (0, t_max]. Default: None, half of
        `t_max`.

    **Returns:** the drive, of shape `()`, or `(n,)` if a parameter of the neuron has this shape.

    **Raises:** `ValueError` for an argument out of range, or a neuron that does not fire for any
    drive up to 1e6 (outside `jax.jit`; inside, the drive is NaN).
    """
    neuron = checks.instance("neuron", neuron, AbstractNeuron, "a neuron model")
    neuron = checks.parameter_leaves(neuron)
    t_max = checks.positive("t_max", t_max)
    window = t_max / 2 if window is None else checks.positive("window", window)
    if window > t_max:
        raise checks.value_error("window", window, f"at most t_max = {t_max}")
    drive = _drive(neuron, t_max, window)
    if checks.is_concrete(drive) and not np.all(np.isfinite(drive)):
        raise checks.value_error("neuron", neuron, "a model that fires for a drive of at most 1e6")
    return drive


def _drive(neuron: AbstractNeuron, t_max: float, window: float) -> Float[Array, "*neurons"]:
    if isinstance(neuron, Populations):
        each = [
            jnp.broadcast_to(_drive(part, t_max, window), (size,))
            for part, size in zip(neuron.parts, neuron.sizes, strict=True)
        ]
        return jnp.concatenate(each)
    arrays, rest = eqx.partition(neuron, eqx.is_array)
    sizes = [x.size for x in jax.tree.leaves(arrays) if x.ndim]
    found = _search(lax.stop_gradient(arrays), rest, t_max, window)
    return found if sizes else found[0]


@eqx.filter_jit
def _search(arrays: Any, rest: Any, t_max: float, window: float) -> Float[Array, " n"]:
    """Critical drive of each of `n` neurons."""
    n = max([x.size for x in jax.tree.leaves(arrays) if x.ndim], default=1)
    if eqx.combine(arrays, rest).never_reset(n).all():
        return _readout_drive(eqx.combine(arrays, rest), n, t_max, window)
    neuron = eqx.combine(arrays, rest)

    def times(drive: Float[Array, " n"]) -> Float[Array, " n"]:
        weights = jnp.tile(drive / _SPIKES, neuron.receptors)[None]
        layer = EventLinear(neuron, weights, t_max=t_max)
        return layer.ttfs(_even(window), throw=False)

    def bisect(_, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        # The search starts from below: a neuron with a far too large drive fires without end.
        low, high = bracket
        drive = jnp.where(high < jnp.inf, jnp.sqrt(low * high), _STEP * low)
        fires = (times(drive) <= wanted) & (drive <= _LARGEST)
        return jnp.where(fires, low, drive), jnp.where(fires, drive, high)

    alone = times(jnp.zeros(n))
    wanted = jnp.where(alone < jnp.inf, jnp.minimum(alone / 2, window), window)
    start = jnp.full(n, _SMALLEST), jnp.full(n, jnp.inf)
    return lax.fori_loop(0, _ITERATIONS, bisect, start)[1]


def _readout_drive(neuron: AbstractNeuron, n: int, t_max: float, window: float) -> Array:
    """Drive that raises the potential of a neuron without reset by 1."""
    weights = jnp.full((1, n * neuron.receptors), 1 / _SPIKES)
    layer = EventLinear(neuron, weights, t_max=t_max)
    ends = jnp.asarray([window])
    rest = layer.potentials_at(jnp.full((1, 1), jnp.inf), ends, throw=False)
    rise = layer.potentials_at(_even(window), ends, throw=False) - rest
    return 1 / rise[:, 0]


def _even(window: float) -> Float[Array, "1 spikes"]:
    """Input spikes that are evenly spread over the window."""
    return jnp.asarray((np.arange(_SPIKES) + 0.5)[None] * (window / _SPIKES), float)
