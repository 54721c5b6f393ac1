"""Base classes and shared helpers of the discrete-time cells."""

import abc
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from .. import checks
from ..constraints import AbstractWrapper
from .surrogates import ATan

Like = Array | jax.ShapeDtypeStruct
ResetName = Literal["subtract", "zero", "none"]
RESETS = ("subtract", "zero", "none")


class AbstractCell(eqx.Module):
    """Base class of stateful layers: one call is one time step, with explicit state.

    Cells, stacks of layers and user-defined models are subclasses. A call takes one sample. Use
    `jax.vmap` for a batch: the initial state of a batch `x` of shape `(batch, *features)` is
    `jax.vmap(model.init_state)(x)`.
    """

    neuron_parameters: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that are neuron parameters. [`eventsnn.discrete.trainable`][] selects
    them only by name. It selects all other floating-point arrays of a user-defined cell by
    default."""

    @abc.abstractmethod
    def init_state(self, x: Any) -> PyTree:
        """Return the state before the first step, for inputs of the shape and dtype of `x`."""

    @abc.abstractmethod
    def __call__(
        self, x: Any, state: PyTree, *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, PyTree]:
        """Compute one step.

        **Arguments:**

        - `x`: the input of this step.
        - `state`: the state returned by `init_state` or by the previous step.
        - `key`: random key for dropout and stochastic surrogates. Default: None, no key.

        **Returns:** the output and the new state.
        """

    def in_parallel(
        self, xs: Any, state: PyTree, *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, PyTree] | None:
        """Compute all steps in parallel over time.

        **Arguments:**

        - `xs`: the input of each step, time axis first.
        - `state`: the state before the first step.
        - `key`: random key for stochastic surrogates, one for all steps. Default: None, no key.

        **Returns:** outputs and states of all steps, both with the time axis first. None if the
        cell cannot be computed in parallel.
        """
        return None


# ------------------------------------------------------------------ stateless layers


def call(layer: Any, x: Any, key: PRNGKeyArray | None) -> Any:
    """Output of a stateless layer. Pass `key` to modules that accept it."""
    return layer(x, key=key) if takes_key(layer) else layer(x)


def takes_key(layer: Any) -> bool:
    """Return whether a layer is a module whose call has an argument `key`."""
    if not (isinstance(layer, eqx.Module) and callable(layer)):
        return False
    taken = inspect.signature(layer).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in taken)


def callable_instance(name: str, value: Any) -> Any:
    """Return `value`. Raise unless it is callable and not a class."""
    if isinstance(value, type):
        raise ValueError(
            f"{name} must be an instance, such as {value.__name__}(...), got the class "
            f"{value.__name__}."
        )
    return checks.function(name, value, "a callable")


def described(tree: Any) -> str:
    """Description of the shapes and dtypes of a pytree of arrays, in one line."""
    return eqx.tree_pformat(jax.tree.map(_kind, tree), width=10**6, struct_as_array=True)


def kinds(tree: Any) -> Any:
    """Structure of a pytree, and shapes and dtypes of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [_kind(leaf) for leaf in leaves]


def _kind(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "dtype") else x


def reason(error: Exception) -> str:
    """First line of an error message, without its full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


# ------------------------------------------------------------------ parameters


RATE = checks.Range("must lie in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def leaf(name: str, values: checks.Range = checks.FINITE) -> Callable[[ArrayLike], Array]:
    """Make a converter for a parameter, which is a scalar or has one value per neuron.

    The converter returns a floating-point array and raises for values out of range.
    """

    def convert(value: ArrayLike) -> Array:
        return checks.as_floating(checks.within(name, value, values))

    return convert


def alike(name: str, value: Array, other: str, reference: Array) -> None:
    """Raise if the shape of a parameter does not broadcast against the shape of another one."""
    try:
        np.broadcast_shapes(value.shape, reference.shape)
    except ValueError:
        raise ValueError(
            f"{name} must have a shape that broadcasts against {reference.shape} of {other}, "
            f"got shape {value.shape}."
        ) from None


def like(value: Any, x: Like, name: str) -> Array:
    """Unwrap a parameter and convert it to the dtype of `x`.

    Raise unless it is a scalar, or has as many axes as `x`, each of the same length or of length 1.
    """
    value = jnp.asarray(value.unwrap() if isinstance(value, AbstractWrapper) else value)
    fits = value.ndim == 0 or (
        value.ndim == len(x.shape)
        and all(have in (1, n) for have, n in zip(value.shape, x.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"{name} must be a scalar or have one value per neuron, for inputs of shape "
            f"{tuple(x.shape)}, got shape {value.shape} (an axis of length 1 shares a value: "
            "(C, 1, 1) is per channel)."
        )
    return value.astype(x.dtype)


def decay(value: Array, x: Array, name: str) -> Array:
    """Clip a decay rate to [0, 1].

    The derivative is 1 on the closed interval, including the limits, where `jnp.clip` has the
    derivative 1/2. It is 0 outside.
    """
    value = like(value, x, name)
    inside = (value >= 0) & (value <= 1)
    return jnp.where(inside, value, jax.lax.stop_gradient(jnp.clip(value, 0, 1)))


def zeros(x: Like) -> Array:
    """Array of zeros with the shape and dtype of `x`. Raise unless `x` is one float array."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"inputs of a cell must be one array, got {type(x).__name__}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"inputs of a cell must be floating-point, got {x.dtype}.")
    return jnp.zeros(x.shape, x.dtype)


# ------------------------------------------------------------------ spiking cells


def reset_name(value: Any) -> ResetName:
    """Return `value`. Raise unless it is the name of a reset."""
    return checks.choice("reset", value, RESETS)


reset_delay = partial(checks.flag, "reset_delay")


class AbstractSpikingCell(AbstractCell):
    r"""Base class of spiking cells: a neuron fires if its membrane potential $U$ exceeds the
    threshold, $S = H(U - \theta)$. At the threshold it does not fire.

    The reset is constant under differentiation. The spikes $S$ have the surrogate gradient.

    **Arguments:** the fields `threshold`, `surrogate`, `reset` and `inhibition` are keyword
    arguments of every spiking cell. They are described in [`eventsnn.discrete.Leaky`][], and a cell
    may have other defaults.
    """

    threshold: Float[Array, "*neurons"] = eqx.field(
        default=1.0, converter=leaf("threshold", checks.POSITIVE), kw_only=True
    )
    surrogate: Callable[..., Array] = eqx.field(
        default_factory=ATan, converter=partial(callable_instance, "surrogate"), kw_only=True
    )
    reset: ResetName = eqx.field(
        default="subtract", converter=reset_name, static=True, kw_only=True
    )
    inhibition: bool = eqx.field(
        default=False, converter=partial(checks.flag, "inhibition"), static=True, kw_only=True
    )

    def exceeds(self, mem: Array) -> Array:
        r"""Compute $H(U - \theta)$, 1 for neurons to be reset, as a constant without gradient.

        `mem` is the membrane potential $U$ of each neuron. The result has its shape and dtype.
        """
        over = mem > like(self.threshold, mem, "threshold")
        return jax.lax.stop_gradient(over.astype(mem.dtype))

    def fire(self, mem: Array, key: PRNGKeyArray | None, *, over_time: bool = False) -> Array:
        """Compute the spikes from the membrane potentials of one step.

        With `inhibition`, only the neuron furthest above its threshold may fire, and the neurons
        must have exactly one axis.

        **Arguments:**

        - `mem`: membrane potential of each neuron.
        - `key`: random key for a stochastic surrogate, or None.
        - `over_time`: whether `mem` has the potentials of all steps along its first axis. Default:
            False.
        """
        one = jax.ShapeDtypeStruct(mem.shape[over_time:], mem.dtype)
        gap = mem - like(self.threshold, one, "threshold")
        spk = call(self.surrogate, gap, key)
        if self.inhibition:
            if len(one.shape) != 1:
                raise ValueError(
                    f"inhibition must have inputs of one axis, (n,), got shape {one.shape}."
                )
            spk = spk * jax.nn.one_hot(jnp.argmax(gap, axis=-1), gap.shape[-1], dtype=gap.dtype)
        return spk

    def reset_by(self, mem: Array, spk: Array) -> Array:
        """Membrane potential after the resets counted by `spk`.

        **Arguments:**

        - `mem`: membrane potential of each neuron before the reset.
        - `spk`: resets of each neuron, of the shape of `mem`: 1 for one reset, 0 for none.
        """
        if self.reset == "subtract":
            return mem - spk * like(self.threshold, mem, "threshold")
        if self.reset == "zero":
            return mem - spk * mem
        return mem
