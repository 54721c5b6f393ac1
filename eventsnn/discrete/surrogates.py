r"""Surrogate gradients: a step function in the forward pass, a surrogate derivative in the backward
pass.

The argument of a surrogate is the membrane potential relative to the threshold, $x = U - \theta$.
It returns the spikes

$$H(x) = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \\ \text{NaN} & x \text{ is NaN}
  \end{cases}$$

in the dtype of $x$. A neuron exactly at its threshold does not fire, as in snnTorch. A NaN membrane
potential gives a NaN spike, so that it reaches the loss. In snnTorch it gives no spike.

The derivative of the step function is zero wherever it exists. It is replaced by the method
`derivative` of the surrogate, in forward and in reverse mode (Neftci, Mostafa & Zenke, 2019, IEEE
Signal Processing Magazine 36, 51-63). The replacement is finite in every precision, for every $x$
except NaN, including infinity. Second derivatives are the derivative of the replacement. The
parameters of a surrogate are hyperparameters and receive no gradient.

Values and gradients, including the defaults, are those of snnTorch 1.0.0 except as noted:

| snnTorch | here | difference |
|---|---|---|
| `atan` | [`ATan`][] | none (its docstring has a factor 1/pi instead of alpha/2) |
| `fast_sigmoid` | [`FastSigmoid`][] | none |
| `sigmoid` | [`Sigmoid`][] | snnTorch: NaN if $e^{-kx}$ overflows |
| `straight_through_estimator` | [`StraightThrough`][] | none |
| `triangular` | [`Triangular`][] | snnTorch: not a triangle, wrong sign above the threshold |
| `heaviside` | [`Heaviside`][] | none |
| `spike_rate_escape` | [`SpikeRateEscape`][] | none |
| `SFS` | [`SparseFastSigmoid`][] | none |
| `SSO` | [`StochasticSpike`][] | random numbers come from `key` |
| `LSO` | [`LeakySpike`][] | snnTorch raises on every call; implemented here as documented there |
| `custom_surrogate` | [`Custom`][] | takes x -> derivative; snnTorch also passes the gradient |
"""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..checks import NOT_NEGATIVE, POSITIVE, is_floating, numbers, value_error, within


class AbstractSurrogate(eqx.Module):
    """Base class of surrogates. A subclass defines the method `derivative`."""

    @abc.abstractmethod
    def derivative(
        self, x: Float[Array, "*shape"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*shape"]:
        """Surrogate derivative of the spike with respect to `x`, of the shape of `x`.

        `key` is the random key for a stochastic derivative. All others ignore it. Default: None, no
        key.
        """

    def __call__(
        self, x: Float[ArrayLike, "*shape"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*shape"]:
        r"""Compute the spikes.

        **Arguments:**

        - `x`: membrane potential relative to the threshold, $U - \theta$.
        - `key`: random key for a stochastic derivative. All others ignore it. Default: None, no
            key.

        **Returns:** 1 where `x` > 0, 0 where `x` <= 0, NaN where `x` is NaN.

        **Raises:** `ValueError` if `x` is not floating-point, or `derivative` does not have its
        shape.
        """
        x = numbers("x", x, "a floating-point array")
        if not is_floating(x):
            raise ValueError(f"x must be floating-point, got {x.dtype}.")
        x = jnp.asarray(x)
        return _step(x, _match_shape(self.derivative(x, key=key), x))


@jax.custom_jvp
def _step(x, slope):
    return jnp.where(jnp.isnan(x), x, (x > 0).astype(x.dtype))


@_step.defjvp
def _step_jvp(primals, tangents):
    x, slope = primals
    return _step(x, slope), slope * tangents[0]


class ATan(AbstractSurrogate):
    r"""Derivative of an arc tangent,

    $$\frac{\alpha / 2}{1 + \left(\frac{\pi}{2} \alpha x\right)^2}$$

    (Fang et al., 2021, ICCV, 2661-2671). The default of all cells.

    **Arguments:**

    - `alpha`: $\alpha$ > 0. The height is $\alpha/2$, and the width is proportional to $1/\alpha$.
        Default: 2.
    """

    alpha: ArrayLike = 2.0

    def __check_init__(self):
        within("alpha", self.alpha, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        alpha = jnp.asarray(self.alpha, x.dtype)
        return alpha / 2 / (1 + (math.pi / 2 * alpha * x) ** 2)


class FastSigmoid(AbstractSurrogate):
    r"""Derivative of the fast sigmoid $x / (1 + k |x|)$,

    $$\frac{1}{(1 + k |x|)^2}$$

    (Zenke & Ganguli, 2018, Neural Computation 30, 1514-1541).

    **Arguments:**

    - `slope`: $k$ > 0. Default: 25.
    """

    slope: ArrayLike = 25.0

    def __check_init__(self):
        within("slope", self.slope, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return _fast_sigmoid(self.slope, x)


class Sigmoid(AbstractSurrogate):
    r"""Derivative of the logistic function $\sigma(k x) = 1 / (1 + e^{-k x})$,

    $$k\, \sigma(k x)\, \sigma(-k x)$$

    (Zenke & Ganguli, 2018, Neural Computation 30, 1514-1541), in a form that does not overflow.

    **Arguments:**

    - `slope`: $k$ > 0. The height is $k/4$. Default: 25.
    """

    slope: ArrayLike = 25.0

    def __check_init__(self):
        within("slope", self.slope, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        slope = jnp.asarray(self.slope, x.dtype)
        return slope * jax.nn.sigmoid(slope * x) * jax.nn.sigmoid(-slope * x)


class StraightThrough(AbstractSurrogate):
    """Derivative of 1 everywhere (Bengio, Léonard & Courville, 2013, arXiv:1308.3432)."""

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.ones_like(x)


class Triangular(AbstractSurrogate):
    r"""Triangle centred at the threshold,

    $$h \max\left(0,\ 1 - \frac{|x|}{w}\right)$$

    The default is the triangle of Esser et al. (2016, PNAS 113, 11441-11446). Bellec et al. (2018,
    NeurIPS, arXiv:1803.09574) use $w = \theta$ and $h = \gamma / \theta$ with the damping factor
    $\gamma = 0.3$. With $h = 1/w$ the area is 1.

    snnTorch's `triangular(threshold)` is +threshold below the threshold and -threshold above it.
    This is not a triangle, and its sign is wrong above the threshold: a gradient step towards fewer
    spikes would raise the membrane potential. [`Custom`][] reproduces snnTorch's values:
    `Custom(lambda x: jnp.where(x < 0, 1.0, -1.0).astype(x.dtype))`.

    **Arguments:**

    - `width`: $w$ > 0, half the base of the triangle. Default: 1.
    - `height`: $h$ > 0, the value at the threshold. Default: 1.
    """

    width: ArrayLike = 1.0
    height: ArrayLike = 1.0

    def __check_init__(self):
        within("width", self.width, POSITIVE)
        within("height", self.height, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        width, height = jnp.asarray(self.width, x.dtype), jnp.asarray(self.height, x.dtype)
        return height * jnp.maximum(1 - jnp.abs(x) / width, 0)


class Heaviside(AbstractSurrogate):
    """Derivative equal to the spike itself: 1 with a spike, 0 without, as in snnTorch."""

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return (x > 0).astype(x.dtype)


class SpikeRateEscape(AbstractSurrogate):
    r"""Escape rate centred one unit *above* the threshold,

    $$k\, e^{-\beta |x - 1|}$$

    (Gerstner & Kistler, 2002, Spiking Neuron Models, chapter 5; the shift by 1 is snnTorch's).

    **Arguments:**

    - `beta`: $\beta$ > 0, the rate of decay with the distance from $x = 1$. Default: 1.
    - `slope`: $k$ > 0, the value at $x = 1$. Default: 25.
    """

    beta: ArrayLike = 1.0
    slope: ArrayLike = 25.0

    def __check_init__(self):
        within("beta", self.beta, POSITIVE)
        within("slope", self.slope, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        beta, slope = jnp.asarray(self.beta, x.dtype), jnp.asarray(self.slope, x.dtype)
        return slope * jnp.exp(-beta * jnp.abs(x - 1))


class SparseFastSigmoid(AbstractSurrogate):
    r"""[`FastSigmoid`][] for $x$ above a boundary, 0 below,

    $$\frac{1}{(1 + k |x|)^2}\, H(x - B)$$

    (after Perez-Nieves & Goodman, 2021, NeurIPS, arXiv:2105.08810). With the default $B = 1$, only
    neurons more than one unit above their threshold receive a gradient. With a negative $B$,
    neurons below their threshold receive one, too.

    **Arguments:**

    - `slope`: $k$ > 0. Default: 25.
    - `boundary`: $B$, in the unit of $x$. Default: 1.
    """

    slope: ArrayLike = 25.0
    boundary: ArrayLike = 1.0

    def __check_init__(self):
        within("slope", self.slope, POSITIVE)
        within("boundary", self.boundary)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        active = x > jnp.asarray(self.boundary, x.dtype)
        return jnp.where(active, _fast_sigmoid(self.slope, x), 0)


class StochasticSpike(AbstractSurrogate):
    r"""Derivative of 1 with a spike, and without a spike a small random number

    $$(u - \tfrac12 + \mu)\, s, \qquad u \sim \mathcal U[0, 1)$$

    The parameters have the names of snnTorch's SSO. `variance` is the factor $s$; the variance of
    the random number is $s^2 / 12$. Every call needs a `key`. Use a new key at each step.

    **Arguments:**

    - `mean`: $\mu$. Default: 0.
    - `variance`: $s$ >= 0. Default: 0.2.

    **Raises:** `ValueError` when called without a `key`.
    """

    mean: ArrayLike = 0.0
    variance: ArrayLike = 0.2

    def __check_init__(self):
        within("mean", self.mean)
        within("variance", self.variance, NOT_NEGATIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        if key is None:
            expected = "a jax.random key, as the derivative of StochasticSpike is random"
            raise value_error("key", key, expected)
        mean, scale = jnp.asarray(self.mean, x.dtype), jnp.asarray(self.variance, x.dtype)
        noise = (jax.random.uniform(key, x.shape, x.dtype) - 0.5 + mean) * scale
        return jnp.where(x > 0, 1, noise)


class LeakySpike(AbstractSurrogate):
    """Derivative of a leaky ReLU: 1 with a spike, a small slope without.

    Implements the documented behaviour of snnTorch's LSO.

    **Arguments:**

    - `slope`: the derivative at and below the threshold. Default: 0.1.
    """

    slope: ArrayLike = 0.1

    def __check_init__(self):
        within("slope", self.slope)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.where(x > 0, 1, jnp.asarray(self.slope, x.dtype))


class Custom(AbstractSurrogate):
    """Surrogate with a user-defined derivative.

    **Arguments:**

    - `function`: a callable x -> derivative, elementwise.

    **Raises:** `ValueError` if `function` is not callable, or is a class.
    """

    function: Callable[[Array], ArrayLike]

    def __check_init__(self):
        if not callable(self.function) or isinstance(self.function, type):
            raise value_error("function", self.function, "a callable x -> derivative")

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.asarray(self.function(x))


def _fast_sigmoid(slope, x):
    return 1 / (1 + jnp.asarray(slope, x.dtype) * jnp.abs(x)) ** 2


def _match_shape(slope, x):
    """Convert a derivative to the shape and dtype of `x`."""
    try:
        return jnp.broadcast_to(slope.astype(x.dtype), x.shape)
    except ValueError:
        raise ValueError(
            f"derivative must have the shape {x.shape} of x, got {slope.shape}; parameters must "
            "broadcast against x."
        ) from None
