"""Regression of a membrane potential: a ramp goes in, and the potential has to follow a curve."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import checks

Series = Float[Array, "num_steps *num_samples 1"]


def target(
    key: PRNGKeyArray,
    *,
    num_steps: int = 50,
    mode: str = "linear",
    num_samples: int | None = None,
) -> tuple[Series, Series]:
    r"""A ramp from 0 to a random end, and the potential that should answer it:

    $$x_t = e\,\frac{t}{T-1},\qquad y_t = x_t \;\text{(linear) or}\; \sqrt{s\,x_t}\;\text{(sqrt)}$$

    with $e \sim U(0, 1)$ for each sample and one slope $s \sim U(0, 1)$ for all samples: no
    network could tell which of several to follow. The task is that of snnTorch's first regression
    tutorial, after Henkes, Eshraghian & Wessels, Spiking neural networks for nonlinear
    regression, arXiv:2210.03515, 2022.

    **Arguments:**

    - `key`: of the ends and the slope.
    - `num_steps`: the number of time steps $T$.
    - `mode`: `"linear"` or `"sqrt"`.
    - `num_samples`: how many ramps; default: one, without an axis of its own.

    **Returns:** `(inputs, targets)` without units, of shape `(num_steps, 1)`, or
    `(num_steps, num_samples, 1)`.

    **Raises:** `ValueError` for another mode, or a number that is no integer >= 1.
    """
    checks.choice("mode", mode, ("linear", "sqrt"))
    num_steps = checks.count("num_steps", num_steps)
    num_samples = None if num_samples is None else checks.count("num_samples", num_samples)
    checks.key("key", key)
    key_end, key_slope = jax.random.split(key)
    end = jax.random.uniform(key_end, (1,) if num_samples is None else (num_samples, 1))
    inputs = jnp.linspace(jnp.zeros_like(end), end, num_steps)
    if mode == "linear":
        return inputs, inputs
    return inputs, jnp.sqrt(inputs * jax.random.uniform(key_slope))
