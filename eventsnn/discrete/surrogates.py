r"""Spikes that can be learnt through: a step forwards, a smooth derivative backwards.

A surrogate is called with how far the membrane is above its threshold, $x = U - \theta$, and
returns the spikes

$$H(x) = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \\ \text{NaN} & x \text{ is NaN}
  \end{cases}$$

in the dtype of $x$. A membrane exactly at its threshold does not fire, as in snnTorch. A membrane
that is NaN gives a spike that is NaN, so that it reaches the loss (in snnTorch it gives none). The
derivative of the step, zero wherever it exists, is replaced by the surrogate's
`derivative`, in forward and in reverse mode (Neftci, Mostafa & Zenke, 2019, IEEE Signal
Processing Magazine 36, 51-63). The replacement is finite for every $x$ but NaN, infinity
included, in every precision. Second derivatives are its derivative. The parameters of a surrogate
are a matter of choice: they get no gradient.

For numbers, forwards and backwards these are snnTorch's (1.0.0), with its defaults, but for three:

| snnTorch | here | difference |
|---|---|---|
| `atan` | [`ATan`][] | none (its docstring has a factor 1/pi too many) |
| `fast_sigmoid` | [`FastSigmoid`][] | none |
| `sigmoid` | [`Sigmoid`][] | there NaN where $e^{-kx}$ overflows |
| `straight_through_estimator` | [`StraightThrough`][] | none |
| `triangular` | [`Triangular`][] | there no triangle, and of the wrong sign above the threshold |
| `heaviside` | [`Heaviside`][] | none |
| `spike_rate_escape` | [`SpikeRateEscape`][] | none |
| `SFS` | [`SparseFastSigmoid`][] | none |
| `SSO` | [`StochasticSpike`][] | random numbers come from `key` |
| `LSO` | [`LeakySpike`][] | there every call raises; here what is documented there |
| `custom_surrogate` | [`Custom`][] | takes x -> derivative; there the gradient is passed, too |
"""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..checks import NOT_NEGATIVE, POSITIVE, is_floating, numbers, within, wrong


class AbstractSurrogate(eqx.Module):
    """The step function with a derivative of one's choice; a new one defines `derivative`."""

    @abc.abstractmethod
    def derivative(
        self, x: Float[Array, "*shape"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*shape"]:
        """What is taken for the derivative of the spike, of the shape of `x`."""

    def __call__(
        self, x: Float[ArrayLike, "*shape"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*shape"]:
        r"""The spikes.

        **Arguments:**

        - `x`: how far the membrane is above its threshold, $U - \theta$.
        - `key`: for a random derivative; the others do not look at it.

        **Returns:** 1 where `x` > 0, 0 where `x` <= 0, NaN where `x` is NaN.

        **Raises:** `ValueError` if `x` is not floating-point, or `derivative` does not have its
        shape.
        """
        x = numbers("x", x, "a floating-point array")
        if not is_floating(x):
            raise ValueError(f"x must be floating-point, got {x.dtype}.")
        x = jnp.asarray(x)
        return _step(x, _fitted(self.derivative(x, key=key), x))


@jax.custom_jvp
def _step(x, slope):
    return jnp.where(jnp.isnan(x), x, (x > 0).astype(x.dtype))


@_step.defjvp
def _step_jvp(primals, tangents):
    x, slope = primals
    return _step(x, slope), slope * tangents[0]


class ATan(AbstractSurrogate):
    r"""The derivative of an arc tangent,

    $$\frac{\alpha / 2}{1 + \left(\frac{\pi}{2} \alpha x\right)^2}$$

    (Fang et al., 2021, ICCV, 2661-2671). The default of all cells.

    **Arguments:**

    - `alpha`: $\alpha$ > 0; the height is $\alpha/2$, the width falls with $\alpha$.
    """

    alpha: ArrayLike = 2.0

    def __check_init__(self):
        within("alpha", self.alpha, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        alpha = jnp.asarray(self.alpha, x.dtype)
        return alpha / 2 / (1 + (math.pi / 2 * alpha * x) ** 2)


class FastSigmoid(AbstractSurrogate):
    r"""The derivative of $x / (1 + k |x|)$,

    $$\frac{1}{(1 + k |x|)^2}$$

    (Zenke & Ganguli, 2018, Neural Computation 30, 1514-1541).

    **Arguments:**

    - `slope`: $k$ > 0.
    """

    slope: ArrayLike = 25.0

    def __check_init__(self):
        within("slope", self.slope, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return _fast_sigmoid(self.slope, x)


class Sigmoid(AbstractSurrogate):
    r"""The derivative of the logistic function $\sigma(k x) = 1 / (1 + e^{-k x})$,

    $$k\, \sigma(k x)\, \sigma(-k x)$$

    (Zenke & Ganguli, 2018, Neural Computation 30, 1514-1541), in a form that does not overflow.

    **Arguments:**

    - `slope`: $k$ > 0; the height is $k/4$.
    """

    slope: ArrayLike = 25.0

    def __check_init__(self):
        within("slope", self.slope, POSITIVE)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        slope = jnp.asarray(self.slope, x.dtype)
        return slope * jax.nn.sigmoid(slope * x) * jax.nn.sigmoid(-slope * x)


class StraightThrough(AbstractSurrogate):
    """The derivative is 1 everywhere (Bengio, Léonard & Courville, 2013, arXiv:1308.3432)."""

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.ones_like(x)


class Triangular(AbstractSurrogate):
    r"""A triangle around the threshold,

    $$h \max\left(0,\ 1 - \frac{|x|}{w}\right)$$

    As it is, that of Esser et al. (2016, PNAS 113, 11441-11446); with $w = \theta$ and
    $h = \gamma / \theta$ that of Bellec et al. (2018, NeurIPS, arXiv:1803.09574), where the
    damping $\gamma$ is 0.3. With $h = 1/w$ its area is 1.

    snnTorch's `triangular(threshold)` is +threshold below the threshold and -threshold above
    it. That is not a triangle, and its sign is wrong above, where a gradient that asks for fewer
    spikes would raise the membrane. [`Custom`][] brings it back for who needs its numbers:
    `Custom(lambda x: jnp.where(x < 0, 1.0, -1.0).astype(x.dtype))`.

    **Arguments:**

    - `width`: $w$ > 0, half the base of the triangle.
    - `height`: $h$ > 0, its value at the threshold.
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
    """The derivative is the spike itself: 1 where it fired, 0 where it did not.

    snnTorch's reasoning is that every spike is followed by a reset.
    """

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return (x > 0).astype(x.dtype)


class SpikeRateEscape(AbstractSurrogate):
    r"""An escape rate around one unit *above* the threshold,

    $$k\, e^{-\beta |x - 1|}$$

    (Gerstner & Kistler, 2002, Spiking Neuron Models, chapter 5; the shift by 1 is snnTorch's).

    **Arguments:**

    - `beta`: $\beta$ > 0, how fast it falls.
    - `slope`: $k$ > 0, its value at $x = 1$.
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
    r"""[`FastSigmoid`][] where $x$ is above a boundary, 0 elsewhere,

    $$\frac{1}{(1 + k |x|)^2}\, H(x - B)$$

    (after Perez-Nieves & Goodman, 2021, NeurIPS, arXiv:2105.08810). With the default $B = 1$ a
    gradient arrives only where the membrane is a whole unit above its threshold; a negative $B$
    lets neurons below it learn.

    **Arguments:**

    - `slope`: $k$ > 0.
    - `boundary`: $B$, in units of $x$.
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
    r"""1 where it fired, a small random number where it did not,

    $$(u - \tfrac12 + \mu)\, s, \qquad u \sim \mathcal U[0, 1)$$

    As snnTorch's SSO, whose names the parameters have: $s$ is a factor, and the variance of the
    random number is $s^2 / 12$. It needs a `key` at every call, with a new one at each step.

    **Arguments:**

    - `mean`: $\mu$.
    - `variance`: $s$ >= 0.

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
            raise wrong("key", key, expected)
        mean, scale = jnp.asarray(self.mean, x.dtype), jnp.asarray(self.variance, x.dtype)
        noise = (jax.random.uniform(key, x.shape, x.dtype) - 0.5 + mean) * scale
        return jnp.where(x > 0, 1, noise)


class LeakySpike(AbstractSurrogate):
    """1 where it fired, a small slope where it did not: a leaky ReLU's derivative.

    As snnTorch's LSO is documented.

    **Arguments:**

    - `slope`: the derivative below the threshold.
    """

    slope: ArrayLike = 0.1

    def __check_init__(self):
        within("slope", self.slope)

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.where(x > 0, 1, jnp.asarray(self.slope, x.dtype))


class Custom(AbstractSurrogate):
    """A derivative of one's own.

    **Arguments:**

    - `function`: a callable x -> derivative, elementwise.

    **Raises:** `ValueError` if `function` cannot be called, or is a class.
    """

    function: Callable[[Array], ArrayLike]

    def __check_init__(self):
        if not callable(self.function) or isinstance(self.function, type):
            raise wrong("function", self.function, "a callable x -> derivative")

    def derivative(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.asarray(self.function(x))


def _fast_sigmoid(slope, x):
    return 1 / (1 + jnp.asarray(slope, x.dtype) * jnp.abs(x)) ** 2


def _fitted(slope, x):
    """A derivative in the shape and dtype of `x`."""
    try:
        return jnp.broadcast_to(slope.astype(x.dtype), x.shape)
    except ValueError:
        raise ValueError(
            f"derivative must have the shape {x.shape} of x, got {slope.shape}; parameters must "
            "broadcast against x."
        ) from None
