"""Parameters that stay in their range while they are learnt, by wrapping them."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from . import checks

Tree = TypeVar("Tree", bound=PyTree)


class AbstractWrapper(eqx.Module):
    """A leaf that is learnt as `raw`, and used as what `unwrap` makes of it.

    An optimiser sees `raw`, without a constraint; every query of a network and every run of a
    discrete-time model unwraps first. `shape`, `ndim` and `dtype` are those of the value.
    """

    raw: eqx.AbstractVar[Float[Array, "..."]]

    @abc.abstractmethod
    def unwrap(self) -> Float[Array, "..."]:
        """The value, of the shape of `raw`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the value."""
        return self.raw.shape

    @property
    def ndim(self) -> int:
        """That of the value."""
        return self.raw.ndim

    @property
    def dtype(self) -> Any:
        """That of the value."""
        return self.raw.dtype


class Positive(AbstractWrapper):
    r"""A value that stays above 0: $x = \log(1 + e^r)$, of which $r$ is learnt.

    Far above 0 a step of $r$ is one of $x$; near 0 steps become smaller as $x$ does. For time
    constants, delays, thresholds, or weights that have to stay excitatory.
    """

    raw: Float[Array, "..."]

    def __init__(self, value: Float[ArrayLike, "..."]):
        """**Arguments:**

        - `value`: where to start, > 0.

        **Raises:** `ValueError` for a value that is not finite and > 0.
        """
        x = checks.as_floating(checks.within("value", value, checks.POSITIVE))
        self.raw = x + jnp.log(-jnp.expm1(-x))

    def unwrap(self) -> Float[Array, "..."]:
        return jax.nn.softplus(self.raw)


class Bounded(AbstractWrapper):
    r"""A value that stays between two bounds: $x = l + (u - l) / (1 + e^{-r})$, of which $r$ is
    learnt.

    With the default bounds 0 and 1 it is for decay rates (`beta`, `alpha`) and probabilities. Near
    a bound the steps of $x$ become smaller as the distance does. Other bounds:

    ```python
    esn.constrain(net, where, functools.partial(esn.Bounded, lower=5.0, upper=20.0))
    ```
    """

    raw: Float[Array, "..."]
    lower: float = eqx.field(static=True)
    upper: float = eqx.field(static=True)

    def __init__(self, value: Float[ArrayLike, "..."], lower: float = 0.0, upper: float = 1.0):
        """**Arguments:**

        - `value`: where to start, between the bounds and not at them.
        - `lower`, `upper`: $l$ < $u$, finite. Default: 0 and 1.

        **Raises:** `ValueError` for a value that is not, or bounds that are not.
        """
        low, high = checks.number("lower", lower), checks.number("upper", upper)
        if not low < high:
            given = f"{low} and {high}"
            raise ValueError(f"lower and upper must be bounds with lower < upper, got {given}.")
        inside = checks.Range(
            f"must lie between {low} and {high}", lambda x: (x > low) & (x < high)
        )
        x = checks.as_floating(checks.within("value", value, inside))
        self.lower, self.upper = low, high
        self.raw = jnp.log(x - self.lower) - jnp.log(self.upper - x)

    def unwrap(self) -> Float[Array, "..."]:
        width = self.upper - self.lower
        # From the nearer bound, so that a value close to the upper one still has a gradient.
        return jnp.where(
            self.raw < 0,
            self.lower + width * jax.nn.sigmoid(self.raw),
            self.upper - width * jax.nn.sigmoid(-self.raw),
        )


def constrain(
    tree: Tree,
    where: Callable[[Tree], Any],
    wrapper: Callable[[Array], AbstractWrapper] = Positive,
) -> Tree:
    """The tree with some of its leaves wrapped, so that what is learnt keeps their range.

    **Arguments:**

    - `tree`: a network or a discrete-time model, say.
    - `where`: picks a leaf, or several, as for `equinox.tree_at`:
        `lambda net: (net.delays, net.neuron.tau_mem)`, or `lambda model: model.layers[1].beta`.
    - `wrapper`: makes the wrapped leaf. Default: [`Positive`][]. For a range: [`Bounded`][].

    **Raises:** `ValueError` for a leaf that is out of range to begin with, or if `where` picks
    anything but floating-point leaves of the tree.
    """
    checks.function("where", where)
    checks.function("wrapper", wrapper, "a function that returns an eventsnn.AbstractWrapper")
    picked = jax.tree.leaves(where(tree), is_leaf=_is_wrapper)
    leaves, ids = {id(x) for x in jax.tree.leaves(tree)}, {id(x) for x in picked}
    good = all(eqx.is_inexact_array(x) for x in picked) and ids <= leaves
    if not good or not 0 < len(picked) == len(ids):
        expected = "a function that picks floating-point leaves of tree, none twice or wrapped"
        raise checks.wrong("where", picked, expected)

    def flat(tree):
        return jax.tree.leaves(where(tree))

    return eqx.tree_at(flat, tree, replace_fn=partial(_wrapped, wrapper))


def _wrapped(wrapper: Callable[[Array], Any], leaf: Array) -> AbstractWrapper:
    out = wrapper(leaf)
    expected = "a function that returns an eventsnn.AbstractWrapper"
    if not isinstance(out, AbstractWrapper):
        raise checks.wrong("wrapper", wrapper, expected)
    return out


def unwrap(tree: Tree) -> Tree:
    """The tree with the values of all that is wrapped in it."""
    return jax.tree.map(lambda x: x.unwrap() if _is_wrapper(x) else x, tree, is_leaf=_is_wrapper)


def _is_wrapper(x: Any) -> bool:
    return isinstance(x, AbstractWrapper)
