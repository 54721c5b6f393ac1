"""Numbers of spikes, where spikes are times, as `EventNetwork.spikes` returns them."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..checks import floating, positive
from .classes import wide


def soft_counts(
    times: Float[ArrayLike, "*batch k"], *, t_max: float, tau: float
) -> Float[Array, "*batch"]:
    r"""The number of spikes until `t_max`, of which late ones count less:

    $$c = \sum_{t_i < t_\text{max}} \left(1 - e^{-(t_\text{max} - t_i)/\tau}\right)$$

    A number of spikes has no gradient: it jumps. Here a spike that moves in from beyond `t_max`
    comes in gradually, over about `tau`, and $c$ is a differentiable function of the times. It is
    continuous in the parameters where spikes appear at the end only, as those of QIF neurons do
    (Klos & Memmesheimer, arXiv:2309.14523).

    **Arguments:**

    - `times`: spike times of each output in the last axis, in any order, padded with `inf`.
    - `t_max`: the end of the simulation, in the units of the times.
    - `tau`: > 0, in the same units. As it tends to 0, $c$ becomes the number of spikes.

    **Returns:** the counts, in float32 or more.

    **Raises:** `ValueError` for a constant out of range, or times that are no array of numbers.
    """
    t_max, tau = positive("t_max", t_max), positive("tau", tau)
    times = wide("times", times)
    if times.ndim == 0:
        raise ValueError("times must have shape (*batch, k), got shape ().")
    # Of padding, neither the value nor the derivative may become inf - inf. A NaN stays one.
    late = times >= t_max
    left = t_max - jnp.where(late, t_max, times)
    return jnp.sum(jnp.where(late, 0.0, -jnp.expm1(-left / tau)), axis=-1)


def spike_count(
    times: Float[ArrayLike, "*batch k"],
    targets: Float[ArrayLike, "*batch"],
    *,
    t_max: float,
    tau: float,
) -> Float[Array, ""]:
    r"""The mean squared error of [`soft_counts`][]: $\operatorname{mean}\,(c - c^*)^2$.

    Ask `EventNetwork.spikes` for at least one spike more than the largest target, or too many
    spikes are not seen.

    **Arguments:** as for [`soft_counts`][], and

    - `targets`: how often each output should fire.

    **Returns:** the mean over outputs and batch, in float32 or more.

    **Raises:** `ValueError` if shapes do not fit, or for a constant out of range.
    """
    counts = soft_counts(times, t_max=t_max, tau=tau)
    targets = floating("targets", targets)
    if targets.shape != counts.shape:
        raise ValueError(
            f"targets must have shape {counts.shape}, that of times without its last axis, "
            f"got shape {targets.shape}."
        )
    return jnp.mean((counts - targets.astype(counts.dtype)) ** 2)
