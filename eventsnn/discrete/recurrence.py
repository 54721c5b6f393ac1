"""Parallel linear recurrence of logarithmic depth."""

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
    xs = jnp.concatenate([xs[:1] + decay * start, xs[1:]])
    decays = jnp.broadcast_to(decay, (len(xs), *(1,) * (start.ndim - decay.ndim), *decay.shape))

    def join(earlier, later):
        (a, u), (b, v) = earlier, later
        return a * b, b * u + v

    return jax.lax.associative_scan(join, (decays, xs))[1]
