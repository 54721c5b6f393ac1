"""Regression losses of spike times. A time of `inf` means that the neuron did not fire."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import checks


def mse_time(
    times: Float[Array, "*batch n_out"], targets: Float[Array, "*batch n_out"], *, t_max: float
) -> Float[Array, ""]:
    r"""Mean squared error of spike times, in units of the time limit:

    $$\operatorname{mean}\left[\left(\frac{\min(t, t_\max) - \hat t}{t_\max}\right)^2\right]$$

    with the times $t$ and the targets $\hat t$. A silent neuron ($t = \infty$) counts as firing at
    `t_max` and has no gradient.

    **Arguments:**

    - `times`: first spike time of each output. `inf` means no spike.
    - `targets`: target spike times, of the same shape and unit.
    - `t_max`: the time limit of the simulation, > 0, in the same unit. Later spikes count as
        silent. With [`eventsnn.Pseudospikes`][], give the end of the pseudospikes, which is
        `layer.pseudospikes.end(layer.t_max)` for the layer or network of the outputs. With the
        `t_max` of the layer, pseudospikes count as silent and have no gradient.

    **Returns:** a dimensionless scalar, at most 1 for targets within [0, `t_max`]. It is NaN if
    any time or target is NaN.

    **Raises:** `ValueError` if the shapes differ, or `t_max` is not finite and > 0.
    """
    times, targets, t_max = _checked(times, targets, t_max)
    return jnp.mean(((_within(times, t_max) - targets) / t_max) ** 2)


def mae_time(
    times: Float[Array, "*batch n_out"], targets: Float[Array, "*batch n_out"], *, t_max: float
) -> Float[Array, ""]:
    r"""Mean absolute error of spike times, in their unit:

    $$\operatorname{mean}|\min(t, t_\max) - \hat t|$$

    A silent neuron counts as firing at `t_max` and has no gradient. With pseudospikes, `t_max` is
    their end.

    **Arguments:** as for [`mse_time`][].
    """
    times, targets, t_max = _checked(times, targets, t_max)
    return jnp.mean(jnp.abs(_within(times, t_max) - targets))


def _within(times, t_max):
    # Not `minimum`, which halves the gradient of a spike exactly at the limit. NaN is kept, so
    # that training detects it.
    return jnp.where(times > t_max, t_max, times)


def _checked(times, targets, t_max):
    t_max, times = checks.positive("t_max", t_max), checks.floating("times", times)
    targets = checks.floating("targets", targets)
    # Broadcasting (batch, 1) against (batch,) would compare each sample with all targets.
    if times.shape != targets.shape:
        raise ValueError(
            f"times and targets must have the same shape, got {times.shape} and {targets.shape}."
        )
    return times, targets.astype(times.dtype), t_max
