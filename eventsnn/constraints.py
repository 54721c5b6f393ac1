"""Parameters that stay in their range while they are learnt, by wrapping them."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from . import checks

Tree = TypeVar("Tree", bound=PyTree)


class AbstractWrapper(eqx.Module):
    """A leaf that is learnt as `raw`, and used as what `unwrap` makes of it.

    An optimiser sees `raw`, without a constraint; every query of a network unwraps first. `shape`,
    `ndim` and `dtype` are those of the value.
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
        x = checks.floating("value", value)
        if checks.known(x):
            checks.refuse("value", x, ~(np.asarray(x) > 0), "must be > 0 to stay positive")
            checks.refuse("value", x, ~np.isfinite(np.asarray(x)), "must be finite")
        self.raw = x + jnp.log(-jnp.expm1(-x))

    def unwrap(self) -> Float[Array, "..."]:
        return jax.nn.softplus(self.raw)


def constrain(
    tree: Tree,
    where: Callable[[Tree], Any],
    wrapper: Callable[[Array], AbstractWrapper] = Positive,
) -> Tree:
    """The tree with some of its leaves wrapped, so that what is learnt keeps their range.

    **Arguments:**

    - `tree`: a network, say.
    - `where`: picks a leaf, or several, as for `equinox.tree_at`:
        `lambda net: (net.delays, net.neuron.tau_mem)`.
    - `wrapper`: makes the wrapped leaf, by default [`Positive`][].

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
