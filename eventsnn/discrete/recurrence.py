"""Parallel linear and rectified recurrences of logarithmic depth."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def linear_recurrence(
    decay: Float[Array, "*neurons"],
    xs: Float[Array, " steps *neurons"],
    start: Float[Array, "*neurons"],
) -> Float[Array, " steps *neurons"]:
    r"""Compute $u_t = \beta u_{t-1} + x_t$ for all steps by an associative scan (Blelloch,
    CMU-CS-90-190, 1990).

    The scan needs about $2 \log_2 T$ sequential steps instead of $T$.

    **Arguments:**

    - `decay`: $\beta$, a scalar or one value per neuron.
    - `xs`: $x_1 \dots x_T$.
    - `start`: $u_0$.

    **Returns:** $u_1 \dots u_T$.
    """
    decays = jnp.broadcast_to(decay, (len(xs), *(1,) * (start.ndim - decay.ndim), *decay.shape))
    return varying_recurrence(decays, xs, start)


def varying_recurrence(
    decays: Float[Array, " steps ..."],
    xs: Float[Array, " steps *neurons"],
    start: Float[Array, "*neurons"],
) -> Float[Array, " steps *neurons"]:
    r"""Compute $u_t = \beta_t u_{t-1} + x_t$ for all steps, as [`linear_recurrence`][].

    `decays` are $\beta_1 \dots \beta_T$, of shapes that broadcast against the neurons.
    """
    xs = jnp.concatenate([xs[:1] + decays[:1] * start, xs[1:]])

    def join(earlier, later):
        (a, u), (b, v) = earlier, later
        return a * b, b * u + v

    return jax.lax.associative_scan(join, (decays, xs))[1]


def rectified_recurrence(
    decay: Float[Array, "*neurons"],
    xs: Float[Array, " steps *neurons"],
    start: Float[Array, "*neurons"],
) -> Float[Array, " steps *neurons"]:
    r"""Compute $u_t = \max(0, \beta u_{t-1} + x_t)$ for all steps, with the arguments of
    [`linear_recurrence`][].

    One step is the function $u \mapsto \max(l, \beta u + c)$ with $l = 0$. For $\beta \ge 0$, the
    composition of two such functions is another one. Where both arguments of the maximum are equal,
    the derivative is that of $l$.
    """
    decays = jnp.broadcast_to(decay, xs.shape)

    def larger(least, value):
        return jnp.where(value <= least, least, value)  # NaN remains

    def join(earlier, later):
        (a, c, low), (b, d, least) = earlier, later
        return a * b, b * c + d, larger(least, b * low + d)

    slope, shift, least = jax.lax.associative_scan(join, (decays, xs, jnp.zeros_like(xs)))
    return larger(least, slope * start + shift)
