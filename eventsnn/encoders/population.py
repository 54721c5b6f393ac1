"""Population code of values as spike times, for the event mode."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from .. import checks


def population_times(
    x: Real[ArrayLike, "*shape"],
    n: int,
    *,
    low: Real[ArrayLike, "..."] = 0.0,
    high: Real[ArrayLike, "..."] = 1.0,
    tau: float = 1.0,
    beta: float = 1.5,
    threshold: float = 0.1,
) -> Float[Array, "*shape n"]:
    r"""Population code: spike times of $n$ channels with Gaussian receptive fields per value,

    $$t_i = \tau (1 - r_i), \qquad r_i = e^{-(x - \mu_i)^2 / 2 \sigma^2}, \qquad
      \mu_i = l + \frac{2 i - 3}{2} \, \frac{h - l}{n - 2}, \qquad
      \sigma = \frac{1}{\beta} \, \frac{h - l}{n - 2}$$

    for $i = 1, \dots, n$ (Bohte, Kok & La Poutré, Neurocomputing 48:17, 2002). Channels whose
    centre $\mu_i$ is near the value fire early, and channels with $r_i < \vartheta$ do not fire.

    **Arguments:**

    - `x`: finite values.
    - `n`: number of channels per value, >= 3.
    - `low`, `high`: $l$ < $h$, range of the values, numbers or arrays that broadcast to `x`, for
        example the ranges of the columns of the training set. Values outside are allowed.
        Defaults: 0 and 1.
    - `tau`: $\tau$ > 0, latest time. Default: 1.
    - `beta`: $\beta$ > 0; the fields are narrower for a larger one. Default: 1.5.
    - `threshold`: $\vartheta$, from 0 to 1. Default: 0.1.

    **Returns:** spike times, `inf` for no spike, with the channels of a value in the last axis.
    They are differentiable with respect to `x`. The input of a network with one spike per channel
    is `times.reshape(*batch, -1, 1)`.

    **Raises:** `ValueError` for values that are not finite, or options out of range.
    """
    given = checks.numbers("x", x, boolean=True)
    checks.check_elements("x", given, np.isfinite, "finite")
    x = checks.at_least_float32(checks.as_floating(given))
    n = checks.integer("n", n, 3)
    least, most = (
        checks.broadcast(name, value, x.shape, "x", x.dtype)
        for name, value in (("low", low), ("high", high))
    )
    checks.raise_if("high", high, ~(most > least), "must be above low")
    tau, beta = checks.positive("tau", tau), checks.positive("beta", beta)
    threshold = checks.number("threshold", threshold, "a number from 0 to 1", lambda v: 0 <= v <= 1)
    spacing = ((most - least) / (n - 2))[..., None]
    centres = least[..., None] + (jnp.arange(1, n + 1, dtype=x.dtype) - 1.5) * spacing
    response = jnp.exp(-0.5 * ((x[..., None] - centres) * beta / spacing) ** 2)
    return jnp.where(response < threshold, jnp.inf, tau * (1 - response))
