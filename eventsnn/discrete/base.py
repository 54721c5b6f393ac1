"""What a layer of the discrete-time mode is, and what the spiking ones have in common."""

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
    """One step of a layer with a memory: state in, state out, nothing hidden.

    A cell, a stack of layers and a model of your own are all this. It sees one sample;
    `jax.vmap` makes it a batch: the initial state of a batch `x` of shape `(batch, *features)` is
    `jax.vmap(model.init_state)(x)`.
    """

    neuron_parameters: ClassVar[tuple[str, ...]] = ()
    """Names of fields that describe neurons: [`eventsnn.discrete.trainable`][] leaves them as
    they are unless it is given their name. All other arrays of a new cell train."""

    @abc.abstractmethod
    def init_state(self, x: Any) -> PyTree:
        """The state before the first step, for inputs of the shape and dtype of `x`."""

    @abc.abstractmethod
    def __call__(
        self, x: Any, state: PyTree, *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, PyTree]:
        """One step.

        **Arguments:**

        - `x`: this step's input.
        - `state`: as `init_state` or the previous step returned it.
        - `key`: for what is random (dropout, a stochastic surrogate).

        **Returns:** the output and the new state.
        """

    def in_parallel(
        self, xs: Any, state: PyTree, *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, PyTree] | None:
        """Outputs and states of all steps, both with time first, without one step waiting for
        another; None where that cannot be."""
        return None


# ------------------------------------------------------------------ layers without memory


def call(layer: Any, x: Any, key: PRNGKeyArray | None) -> Any:
    """Output of a layer without memory. Modules that take a key get one."""
    return layer(x, key=key) if takes_key(layer) else layer(x)


def takes_key(layer: Any) -> bool:
    """Whether a layer is a module whose call has an argument `key`."""
    if not (isinstance(layer, eqx.Module) and callable(layer)):
        return False
    taken = inspect.signature(layer).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in taken)


def callable_instance(name: str, value: Any) -> Any:
    """`value`, refused unless it is callable and not a class."""
    if isinstance(value, type):
        raise ValueError(
            f"{name} must be an instance, such as {value.__name__}(...), got the class "
            f"{value.__name__}."
        )
    return checks.function(name, value, "a callable")


def described(tree: Any) -> str:
    """The shapes and dtypes of a tree of arrays, in one line."""
    return eqx.tree_pformat(jax.tree.map(_kind, tree), width=10**6, struct_as_array=True)


def kinds(tree: Any) -> Any:
    """The structure of a tree, and the shapes and dtypes of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [_kind(leaf) for leaf in leaves]


def _kind(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "dtype") else x


def reason(error: Exception) -> str:
    """The first line of an error's message, without its full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


# ------------------------------------------------------------------ parameters


RATE = checks.Range("must lie in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def leaf(name: str, values: checks.Range = checks.FINITE) -> Callable[[ArrayLike], Array]:
    """A converter for a parameter: a floating-point array, a scalar or one value per neuron."""

    def convert(value: ArrayLike) -> Array:
        return checks.as_floating(checks.within(name, value, values))

    return convert


def alike(name: str, value: Array, other: str, reference: Array) -> None:
    """Refuse a parameter whose shape does not broadcast against that of another one."""
    try:
        np.broadcast_shapes(value.shape, reference.shape)
    except ValueError:
        raise ValueError(
            f"{name} must have a shape that broadcasts against {reference.shape} of {other}, "
            f"got shape {value.shape}."
        ) from None


def like(value: Any, x: Like, name: str) -> Array:
    """A parameter, unwrapped and in the dtype of `x`, refused unless it is a scalar or fits the
    axes of `x` one by one."""
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
    """A decay rate limited to [0, 1], whose limits belong to the range: the derivative there is
    1, where `jnp.clip` would give a half."""
    value = like(value, x, name)
    inside = (value >= 0) & (value <= 1)
    return jnp.where(inside, value, jax.lax.stop_gradient(jnp.clip(value, 0, 1)))


def zeros(x: Like) -> Array:
    """Zeros of the shape and dtype of `x`."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"inputs of a cell must be one array, got {type(x).__name__}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"inputs of a cell must be floating-point, got {x.dtype}.")
    return jnp.zeros(x.shape, x.dtype)


# ------------------------------------------------------------------ spiking cells


def reset_name(value: Any) -> ResetName:
    """`value`, refused unless it is the name of a reset."""
    return checks.choice("reset", value, RESETS)


reset_delay = partial(checks.flag, "reset_delay")


class AbstractSpikingCell(AbstractCell):
    r"""A cell whose membrane $U$ fires where it exceeds a threshold, $S = H(U - \theta)$. At the
    threshold it does not fire.

    The fields below are keyword arguments of every spiking cell. The reset is a constant for
    differentiation; through $S$ the derivative of the surrogate passes.
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
        r"""$H(U - \theta)$ as a constant: whether the neuron is due a reset."""
        over = mem > like(self.threshold, mem, "threshold")
        return jax.lax.stop_gradient(over.astype(mem.dtype))

    def fire(self, mem: Array, key: PRNGKeyArray | None, *, over_time: bool = False) -> Array:
        """The spikes of this step, or with `over_time` of all steps, along the first axis.

        With `inhibition` only the neuron that exceeds its threshold most may fire; the neurons
        then have one axis.
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
        """The membrane after the resets counted by `spk`."""
        if self.reset == "subtract":
            return mem - spk * like(self.threshold, mem, "threshold")
        if self.reset == "zero":
            return mem - spk * mem
        return mem
