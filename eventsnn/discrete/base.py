"""What a layer of the discrete-time mode is, and what the spiking ones have in common."""

import abc
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from ..checks import refuse
from ..surrogates import ATan

Like = Array | jax.ShapeDtypeStruct
ResetName = Literal["subtract", "zero", "none"]
RESETS = ("subtract", "zero", "none")


class AbstractCell(eqx.Module):
    """One step of something with a memory: state in, state out, nothing hidden.

    A cell, a stack of layers and a model of your own are all this. It sees one sample;
    `jax.vmap` makes it a batch.
    """

    @abc.abstractmethod
    def init_state(self, x: Like) -> PyTree:
        """The state before the first step, for inputs of the shape and dtype of `x`."""

    @abc.abstractmethod
    def __call__(
        self, x: Array, state: PyTree, *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, PyTree]:
        """One step.

        **Arguments:**

        - `x`: this step's input.
        - `state`: as `init_state` or the previous step returned it.
        - `key`: for what is random (dropout, a stochastic surrogate).

        **Returns:** the output and the new state.
        """

    def in_parallel(
        self, xs: Array, state: PyTree, *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, PyTree] | None:
        """Outputs and states of all steps, both with time first, without one step waiting for
        another; None where that cannot be."""
        return None


def call(layer: Any, x: Array, key: PRNGKeyArray | None) -> Array:
    """What has no memory. Modules take a key, plain functions do not."""
    takes_key = issubclass(type(layer), eqx.Module)
    return layer(x, key=key) if takes_key else layer(x)


def leaf(name: str, positive: bool = False) -> Callable[[ArrayLike], Array]:
    """A converter for a parameter: a floating-point array, a scalar or one value a neuron."""

    def convert(value: ArrayLike) -> Array:
        out = jnp.asarray(value)
        if not jnp.issubdtype(out.dtype, jnp.floating):
            out = out.astype(float)
        if positive:
            refuse(name, value, ~(out > 0), "must be > 0")
        return jax.lax.convert_element_type(out, out.dtype)  # drops a Python float's weak type

    return convert


class AbstractSpikingCell(AbstractCell):
    r"""A cell whose membrane $U$ fires where it exceeds a threshold, $S = H(U - \theta)$.

    The fields below are keyword arguments of every spiking cell. The reset is a constant for
    differentiation; through $S$ the derivative of the surrogate passes.
    """

    threshold: Float[Array, "*neurons"] = eqx.field(
        default=1.0, converter=leaf("threshold"), kw_only=True
    )
    surrogate: Callable[..., Array] = eqx.field(default_factory=ATan, kw_only=True)
    reset: ResetName = eqx.field(default="subtract", static=True, kw_only=True)
    inhibition: bool = eqx.field(default=False, static=True, kw_only=True)

    def __check_init__(self):
        if self.reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {self.reset!r}.")
        if not callable(self.surrogate):
            raise ValueError(
                f"surrogate must be a callable from eventsnn.surrogates, got {self.surrogate!r}."
            )

    def exceeds(self, mem: Array) -> Array:
        r"""$H(U - \theta)$ as a constant: whether the neuron is due a reset."""
        over = mem > like(self.threshold, mem, "threshold")
        return jax.lax.stop_gradient(over.astype(mem.dtype))

    def fire(self, mem: Array, key: PRNGKeyArray | None) -> Array:
        """The spikes of this step; with `inhibition` only the neuron (along the last axis) that
        exceeds its threshold most may fire."""
        gap = mem - like(self.threshold, mem, "threshold")
        spk = call(self.surrogate, gap, key)
        if self.inhibition:
            spk = spk * jax.nn.one_hot(jnp.argmax(gap, axis=-1), gap.shape[-1], dtype=gap.dtype)
        return spk

    def reset_by(self, mem: Array, spk: Array) -> Array:
        """The membrane after the resets counted by `spk`."""
        if self.reset == "subtract":
            return mem - spk * like(self.threshold, mem, "threshold")
        if self.reset == "zero":
            return mem - spk * mem
        return mem


def like(value: Array, x: Array, name: str) -> Array:
    """A parameter in the dtype of `x`, refused where it does not broadcast against it."""
    try:
        fits = jnp.broadcast_shapes(value.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be a scalar or have one value a neuron, for inputs of shape {x.shape}, "
            f"got shape {value.shape}."
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
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"inputs of a cell must be floating-point, got {x.dtype}.")
    return jnp.zeros(x.shape, x.dtype)
