"""Distances between spike trains given as times, such as `EventNetwork.spikes` returns."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..checks import positive
from .classes import wide


def van_rossum(
    times_a: Float[ArrayLike, "*trains k_a"],
    times_b: Float[ArrayLike, "*trains k_b"],
    *,
    tau: float,
) -> Float[Array, ""]:
    r"""The squared distance of van Rossum (Neural Computation 13:751, 2001): each train becomes a
    trace that jumps by 1 at a spike and decays, and

    $$D^2 = \frac1\tau \int_0^\infty (f_a - f_b)^2 \,dt, \qquad
    f(t) = \sum_{t_i \le t} e^{-(t - t_i)/\tau}$$

    in closed form, a sum over pairs of spikes (Houghton & Kreuz, Network 23:48, 2012):

    $$D^2 = \tfrac12 (n_a - n_b)^2 - \tfrac12 \sum_{ij} s_i s_j
    \left(1 - e^{-|t_i - t_j|/\tau}\right)$$

    with $s = 1$ for the spikes of one train and -1 for those of the other. A missing spike costs
    1/2, and a spike at a distance of $d$ from its partner $1 - e^{-d/\tau}$.

    It is exact and differentiable in all times. Where two spikes coincide it has a kink, whose
    derivative is 0. The *number* of spikes has no gradient, as everywhere in the event mode: a
    spike that is missing or in excess is felt only through the others.

    **Arguments:**

    - `times_a`, `times_b`: spike times, in any order, padded with `inf`; as many trains in both,
        but not necessarily as many spikes.
    - `tau`: the time constant, > 0, in the units of the times. A small one counts spikes that do
        not coincide, a large one compares numbers of spikes.

    **Returns:** the mean over the trains, without units, in float32 or more.

    **Raises:** `ValueError` if the trains are not as many in both, or `tau` is out of range.
    """
    tau = positive("tau", tau)
    a, b = wide("times_a", times_a), wide("times_b", times_b)
    if a.ndim == 0 or b.ndim == 0 or a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            "times_a and times_b must have shapes (*trains, k) with the same trains, got "
            f"{a.shape} and {b.shape}."
        )
    dtype = np.promote_types(a.dtype, b.dtype)
    times = jnp.concatenate([a.astype(dtype), b.astype(dtype)], axis=-1)
    side = jnp.concatenate([jnp.ones(a.shape[-1:], dtype), -jnp.ones(b.shape[-1:], dtype)])
    # Of padding, neither the value nor the derivative may become inf - inf. A NaN stays one.
    fired = times != jnp.inf
    sign, times = jnp.where(fired, side, 0), jnp.where(fired, times, 0)
    apart = jnp.abs(times[..., :, None] - times[..., None, :])
    pairs = sign[..., :, None] * sign[..., None, :] * jnp.expm1(-apart / tau)
    return jnp.mean((jnp.sum(sign, axis=-1) ** 2 + jnp.sum(pairs, axis=(-2, -1))) / 2)
