"""Scalar losses of spike times. A time of `inf` means that the neuron did not fire."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import checks


def time_mse(
    times: Float[Array, "*batch n_out"], targets: Float[Array, "*batch n_out"], *, t_max: float
) -> Float[Array, ""]:
    r"""The mean squared error of spike times, in units of the time limit:

    $$\operatorname{mean}\left(\frac{\min(t, t_\max) - \hat t}{t_\max}\right)^2$$

    A silent neuron counts as one that fires at `t_max`, and passes no gradient back.

    **Arguments:**

    - `times`: when each output first fired (ms); `inf` where it did not.
    - `targets`: when it should have fired (ms), of the same shape.
    - `t_max`: the time limit of the simulation (ms).

    **Returns:** a scalar without units, at most 1 for targets within [0, `t_max`]. A NaN among
    the times or targets makes it NaN.

    **Raises:** `ValueError` for arrays of different shapes, or `t_max` that is not finite and > 0.
    """
    times, targets, t_max = _checked(times, targets, t_max)
    return jnp.mean(((_within(times, t_max) - targets) / t_max) ** 2)


def time_mae(
    times: Float[Array, "*batch n_out"], targets: Float[Array, "*batch n_out"], *, t_max: float
) -> Float[Array, ""]:
    r"""The mean absolute error of spike times, in ms:

    $$\operatorname{mean}|\min(t, t_\max) - \hat t|$$

    Arguments as for [`time_mse`][]: a silent neuron counts as one that fires at `t_max`.
    """
    times, targets, t_max = _checked(times, targets, t_max)
    return jnp.mean(jnp.abs(_within(times, t_max) - targets))


def _within(times, t_max):
    # Not `minimum`, which halves the gradient of a spike exactly at the limit. A NaN passes
    # through, so that training sees it.
    return jnp.where(times > t_max, t_max, times)


def _checked(times, targets, t_max):
    t_max, times = checks.positive("t_max", t_max), checks.floating("times", times)
    targets = checks.floating("targets", targets)
    # Broadcasting (batch, 1) against (batch,) would compare every sample with every target.
    if times.shape != targets.shape:
        raise ValueError(
            f"times and targets must have one shape, got {times.shape} and {targets.shape}."
        )
    return times, targets.astype(times.dtype), t_max
