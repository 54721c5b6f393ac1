"""Constrained parameters: wrappers that keep a parameter in its range during training."""

import abc
import math
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
    """Base class of wrapped parameters: the optimiser updates `raw`, the model uses `unwrap()`.

    `raw` is unconstrained. Every query of an event network and every run of a discrete-time model
    unwraps its parameters first. `shape`, `ndim` and `dtype` describe the unwrapped value.
    """

    raw: eqx.AbstractVar[Float[Array, "..."]]

    @abc.abstractmethod
    def unwrap(self) -> Float[Array, "..."]:
        """Return the constrained value, of the shape of `raw`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.raw.shape

    @property
    def ndim(self) -> int:
        """Number of axes of the value."""
        return self.raw.ndim

    @property
    def dtype(self) -> Any:
        """Dtype of the value."""
        return self.raw.dtype


class Positive(AbstractWrapper):
    r"""Positive parameter, $x = \log(1 + e^r)$. The optimiser updates $r$.

    Far above 0, a change of $r$ changes $x$ by the same amount. Near 0, the change of $x$ is
    proportional to $x$. Use it for time constants, delays, thresholds and excitatory weights.
    """

    raw: Float[Array, "..."]

    def __init__(self, value: Float[ArrayLike, "..."]):
        """**Arguments:**

        - `value`: the initial value, > 0.

        **Raises:** `ValueError` unless the value is finite and > 0.
        """
        x = checks.as_floating(checks.within("value", value, checks.POSITIVE))
        self.raw = x + jnp.log(-jnp.expm1(-x))

    def unwrap(self) -> Float[Array, "..."]:
        return jax.nn.softplus(self.raw)


class Bounded(AbstractWrapper):
    r"""Parameter between two bounds, $x = l + (u - l) / (1 + e^{-r})$. The optimiser updates $r$.

    Near a bound, the change of $x$ is proportional to its distance from the bound. The default
    bounds 0 and 1 suit decay rates (`beta`, `alpha`) and probabilities.
    `esn.constrain(net, where, (5.0, 20.0))` wraps parameters with other bounds.
    """

    raw: Float[Array, "..."]
    lower: float = eqx.field(static=True)
    upper: float = eqx.field(static=True)

    def __init__(self, value: Float[ArrayLike, "..."], lower: float = 0.0, upper: float = 1.0):
        """**Arguments:**

        - `value`: the initial value, strictly between the bounds.
        - `lower`, `upper`: the bounds, $l$ < $u$, finite. Defaults: 0 and 1.

        **Raises:** `ValueError` for a value outside the bounds, or invalid bounds.
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
        # Computed from the nearer bound, so that a value close to the upper one has a gradient.
        return jnp.where(
            self.raw < 0,
            self.lower + width * jax.nn.sigmoid(self.raw),
            self.upper - width * jax.nn.sigmoid(-self.raw),
        )


def constrain(
    tree: Tree,
    where: Callable[[Tree], Any],
    wrapper: Callable[[Array], AbstractWrapper] | tuple[float, float] = Positive,
) -> Tree:
    """Wrap selected leaves of a pytree, so that they stay in their range during training.

    ```python
    net = esn.constrain(net, lambda net: net.neuron.tau_mem)  # positive
    model = esn.constrain(model, lambda model: model.layers[1].beta, (0.0, 1.0))
    ```

    **Arguments:**

    - `tree`: a pytree, such as an event network or a discrete-time model.
    - `where`: function that selects one or several leaves, as for `equinox.tree_at`:
        `lambda net: (net.delays, net.neuron.tau_mem)`, or `lambda model: model.layers[1].beta`.
    - `wrapper`: an interval `(lower, upper)`, within which [`Bounded`][] keeps the leaves, or a
        function from a leaf to a wrapped leaf. Default: [`Positive`][].

    **Returns:** a copy of the tree with the selected leaves wrapped.

    **Raises:** `ValueError` for a leaf whose initial value is out of range, for example a delay of
    0 with [`Positive`][], or if `where` selects anything but floating-point leaves of the tree.
    """
    checks.function("where", where)
    wrap = _wrapper(wrapper)
    selected = jax.tree.leaves(where(tree), is_leaf=_is_wrapper)
    leaves, ids = {id(x) for x in jax.tree.leaves(tree)}, {id(x) for x in selected}
    good = all(eqx.is_inexact_array(x) for x in selected) and ids <= leaves
    if not good or not 0 < len(selected) == len(ids):
        expected = "a function that selects distinct floating-point leaves of tree, not yet wrapped"
        raise checks.value_error("where", selected, expected)

    def flat(tree):
        return jax.tree.leaves(where(tree))

    paths = jax.tree_util.tree_leaves_with_path(tree)
    names = {id(x): jax.tree_util.keystr(path, simple=True, separator=".") for path, x in paths}
    return eqx.tree_at(flat, tree, replace_fn=lambda x: _wrapped(wrap, x, names[id(x)]))


_EXPECTED = (
    "an interval (lower, upper) with lower < upper, or a function that returns an "
    "eventsnn.AbstractWrapper"
)


def _wrapper(value: Any) -> Callable[[Array], Any]:
    """Convert an interval to a function that wraps a leaf."""
    if not isinstance(value, tuple | list):
        return checks.function("wrapper", value, _EXPECTED)
    numbers = len(value) == 2 and all(map(checks.is_real_scalar, value))
    if not numbers or not -math.inf < value[0] < value[1] < math.inf:
        raise checks.value_error("wrapper", value, _EXPECTED)
    return partial(Bounded, lower=value[0], upper=value[1])


def _wrapped(wrapper: Callable[[Array], Any], leaf: Array, name: str) -> AbstractWrapper:
    try:
        out = wrapper(leaf)
    except ValueError as error:
        # The wrappers call their argument `value`.
        message = str(error)
        if not name or not message.startswith("value "):
            raise
        raise ValueError(f"{name} {message.removeprefix('value ')}") from None
    if not isinstance(out, AbstractWrapper):
        raise checks.value_error("wrapper", wrapper, _EXPECTED)
    return out


def unwrap(tree: Tree) -> Tree:
    """Replace all wrapped leaves of the pytree `tree` by their values."""
    return jax.tree.map(lambda x: x.unwrap() if _is_wrapper(x) else x, tree, is_leaf=_is_wrapper)


def _is_wrapper(x: Any) -> bool:
    return isinstance(x, AbstractWrapper)
