"""Quantised states: rounding to given levels with a straight-through gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import checks

# Ratio of neighbouring distances between exponential levels, by the number of bits.
_MULTIPLIERS = {1: 0.05, 2: 0.1, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.9, 7: 0.925}


class StateQuant(eqx.Module):
    r"""Rounding of a state to the nearest of $2^b$ levels between $-\theta (1 + l)$ and
    $\theta (1 + u)$.

    It is the argument `state_quant` of the cells: `Leaky(0.9, state_quant=StateQuant(4))`. The
    gradient passes straight through, as if the state were not rounded (Venkatesh, Marinescu &
    Eshraghian, arXiv:2404.19668).

    Uniform levels have equal distances. The distances of exponential levels fall by a factor `m`
    from level to level towards a centre, where the levels are dense. The centre itself is not a
    level. A value in the middle between two levels gets the lower one. Equivalent to
    `snntorch.functional.quant.state_quant`, except that NaN remains NaN.

    **Arguments:**

    - `num_bits`: $b$, from 1 to 16. Default: 8.
    - `uniform`: whether the distances are equal. Default: True. Otherwise they are exponential.
    - `thr_centered`: whether the centre of exponential levels is the threshold. Otherwise it is 0.
        Default: True. Without effect on uniform levels.
    - `threshold`: $\theta$ > 0, a number. Default: 1.
    - `lower_limit`: $l$ >= 0. Default: 0.
    - `upper_limit`: $u$ >= 0. Default: 0.2.
    - `multiplier`: $m$ > 0. Default: None, 0.05 for 1 bit to 0.95 for 8 bits and more, as in
        snnTorch.

    **Raises:** `ValueError` for values out of range.
    """

    levels: Float[Array, " levels"]

    def __init__(
        self,
        num_bits: int = 8,
        uniform: bool = True,
        thr_centered: bool = True,
        threshold: float = 1.0,
        lower_limit: float = 0.0,
        upper_limit: float = 0.2,
        multiplier: float | None = None,
    ):
        count = 2 ** checks.integer("num_bits", num_bits, 1, 16)
        theta = checks.positive("threshold", threshold)
        low = -theta * (1 + checks.not_negative("lower_limit", lower_limit))
        high = theta * (1 + checks.not_negative("upper_limit", upper_limit))
        centre = theta if checks.flag("thr_centered", thr_centered) else 0.0
        default = _MULTIPLIERS.get(num_bits, 0.95)
        ratio = default if multiplier is None else checks.positive("multiplier", multiplier)
        if checks.flag("uniform", uniform):
            levels = np.linspace(low, high, count)
        else:
            levels = _exponential(count, low, centre, high, ratio)
        self.levels = jnp.asarray(levels, float)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Round `x`, an array of any shape, to the nearest levels, in its dtype."""
        levels = jax.lax.stop_gradient(self.levels).astype(x.dtype)
        nearest = levels[jnp.searchsorted((levels[1:] + levels[:-1]) / 2, x)]
        straight = x - jax.lax.stop_gradient(x)  # 0 with derivative 1, or NaN
        return jnp.where(jnp.isinf(x), nearest, nearest + straight)


def _exponential(count, low, centre, high, ratio):
    """Levels that are dense at the centre, as many on each side as its share of the range."""
    below = int(np.floor(count * ((centre - low) / (high - low))))
    steps_below = ratio ** np.arange(below)
    steps_above = ratio ** np.arange(count - below)[::-1]
    rising = _scaled(np.cumsum(steps_below) - steps_below, centre - low, steps_below)
    return np.concatenate(
        [low + rising, centre + _scaled(np.cumsum(steps_above), high - centre, steps_above)]
    )


def _scaled(sums, length, steps):
    """Scale sums of steps, so that all steps together have the given length."""
    return sums * (length / np.sum(steps)) if steps.size else sums
