"""Distances between spike trains given as spike times, as `EventNetwork.spikes` returns them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..checks import positive
from .classes import at_least_float32


def van_rossum(
    times_a: Float[ArrayLike, "*trains k_a"],
    times_b: Float[ArrayLike, "*trains k_b"],
    *,
    tau: float,
) -> Float[Array, ""]:
    r"""Squared van Rossum distance (Neural Computation 13:751, 2001).

    Each train is converted to a trace that jumps by 1 at each spike and decays exponentially:

    $$D^2 = \frac1\tau \int_0^\infty (f_a - f_b)^2 \,dt, \qquad
    f(t) = \sum_{t_i \le t} e^{-(t - t_i)/\tau}$$

    The closed form is a sum over pairs of spikes (Houghton & Kreuz, Network 23:48, 2012):

    $$D^2 = \tfrac12 (n_a - n_b)^2 - \tfrac12 \sum_{ij} s_i s_j
    \left(1 - e^{-|t_i - t_j|/\tau}\right)$$

    with $s = 1$ for the spikes of train $a$ and $s = -1$ for the spikes of train $b$. A single
    missing spike contributes 1/2. A pair of spikes at a distance $d$ contributes
    $1 - e^{-d/\tau}$.

    The distance is exact and differentiable with respect to all spike times. It has a kink where
    two spikes coincide; the derivative there is set to 0. As everywhere in the event mode, the
    *number* of spikes has no gradient. A missing or surplus spike therefore only changes the
    gradients of the other spike times.

    **Arguments:**

    - `times_a`, `times_b`: spike times, in any order, padded with `inf`. Both have the same number
        of trains. The numbers of spikes may differ.
    - `tau`: the time constant, > 0, in the unit of the times. For small values the distance counts
        the spikes that do not coincide. For large values it compares the spike counts.

    **Returns:** the mean over the trains, dimensionless, in float32 or higher precision.

    **Raises:** `ValueError` if the numbers of trains differ, or `tau` is out of range.
    """
    tau = positive("tau", tau)
    a, b = at_least_float32("times_a", times_a), at_least_float32("times_b", times_b)
    if a.ndim == 0 or b.ndim == 0 or a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            "times_a and times_b must have shapes (*trains, k_a) and (*trains, k_b) of the same "
            f"trains, got shapes {a.shape} and {b.shape}."
        )
    dtype = np.promote_types(a.dtype, b.dtype)
    times = jnp.concatenate([a.astype(dtype), b.astype(dtype)], axis=-1)
    side = jnp.concatenate([jnp.ones(a.shape[-1:], dtype), -jnp.ones(b.shape[-1:], dtype)])
    # Neither the value nor the derivative of padding may become inf - inf. NaN is kept.
    fired = times != jnp.inf
    sign, times = jnp.where(fired, side, 0), jnp.where(fired, times, 0)
    apart = jnp.abs(times[..., :, None] - times[..., None, :])
    pairs = sign[..., :, None] * sign[..., None, :] * jnp.expm1(-apart / tau)
    return jnp.mean((jnp.sum(sign, axis=-1) ** 2 + jnp.sum(pairs, axis=(-2, -1))) / 2)
