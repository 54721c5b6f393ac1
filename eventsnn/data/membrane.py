"""Membrane-potential regression: the input is a ramp, the target is a line or a square root."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import checks

__all__ = ["sample"]

_Series = Float[Array, "num_steps *num_samples 1"]


def sample(
    key: PRNGKeyArray,
    *,
    num_steps: int = 50,
    mode: str = "linear",
    num_samples: int | None = None,
) -> tuple[_Series, _Series]:
    r"""Sample input ramps from 0 to a random end, and the target potentials:

    $$x_t = e\,\frac{t}{T-1},\qquad y_t = x_t \;\text{(linear) or}\; \sqrt{s\,x_t}\;\text{(sqrt)}$$

    with $t = 0, \dots, T-1$. The end $e \sim U(0, 1)$ is drawn for each sample. The factor
    $s \sim U(0, 1)$ is the same for all samples, since a network cannot infer it from the ramp.
    The task is that of snnTorch's first regression tutorial, after Henkes, Eshraghian & Wessels,
    Spiking neural networks for nonlinear regression, arXiv:2210.03515, 2022.

    **Arguments:**

    - `key`: a JAX random key for the ends and the factor.
    - `num_steps`: number of time steps $T$. Default: 50.
    - `mode`: `"linear"` (the default) or `"sqrt"`.
    - `num_samples`: number of ramps. Default: None, one ramp without an axis of samples.

    **Returns:** `(inputs, targets)`, dimensionless, of shape `(num_steps, 1)`, or
    `(num_steps, num_samples, 1)` with `num_samples`.

    **Raises:** `ValueError` for an invalid key, an unknown mode, or a number that is not an integer
    >= 1.
    """
    checks.choice("mode", mode, ("linear", "sqrt"))
    num_steps = checks.count("num_steps", num_steps)
    num_samples = None if num_samples is None else checks.count("num_samples", num_samples)
    checks.key("key", key)
    key_end, key_factor = jax.random.split(key)
    end = jax.random.uniform(key_end, (1,) if num_samples is None else (num_samples, 1))
    inputs = jnp.linspace(jnp.zeros_like(end), end, num_steps)
    if mode == "linear":
        return inputs, inputs
    return inputs, jnp.sqrt(inputs * jax.random.uniform(key_factor))
