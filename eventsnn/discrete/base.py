"""Base classes of the discrete-time cells."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import checks
from .layers import call_layer, callable_instance
from .parameters import ResetName, check_broadcast, parameter_like, reset_name, to_parameter
from .surrogates import ATan


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


def state_quantiser(value: Any) -> Any:
    """Return `value`. Raise unless it is None or callable and not a class."""
    return None if value is None else callable_instance("state_quant", value)


class AbstractSpikingCell(AbstractCell):
    r"""Base class of spiking cells: a neuron fires if its membrane potential $U$ exceeds the
    threshold, $S = H(U - \theta)$. At the threshold it does not fire.

    The spikes $S$ have the surrogate gradient.

    **Arguments:** the fields `threshold`, `surrogate` and `inhibition` are keyword arguments of
    every spiking cell. They are described in [`eventsnn.discrete.Leaky`][], and a cell may have
    other defaults.
    """

    threshold: Float[Array, "*neurons"] = eqx.field(
        default=1.0, converter=to_parameter("threshold", checks.POSITIVE), kw_only=True
    )
    surrogate: Callable[..., Array] = eqx.field(
        default_factory=ATan, converter=partial(callable_instance, "surrogate"), kw_only=True
    )
    inhibition: bool = eqx.field(
        default=False, converter=partial(checks.flag, "inhibition"), static=True, kw_only=True
    )

    def fire(self, mem: Array, key: PRNGKeyArray | None, *, over_time: bool = False) -> Array:
        """Compute the spikes from the membrane potentials of one step.

        With `inhibition`, only the neuron furthest above its threshold may fire, and the neurons
        must have exactly one axis.

        **Arguments:**

        - `mem`: membrane potential of each neuron.
        - `key`: random key for a stochastic surrogate, or None.
        - `over_time`: whether `mem` contains all steps, along its first axis. Default: False.

        **Raises:** `ValueError` with `inhibition`, unless the neurons have exactly one axis.
        """
        one = jax.ShapeDtypeStruct(mem.shape[over_time:], mem.dtype)
        gap = mem - parameter_like(self.threshold, one, "threshold")
        spk = call_layer(self.surrogate, gap, key)
        if self.inhibition:
            if len(one.shape) != 1:
                raise ValueError(
                    f"inputs must have shape (n,) with inhibition, got shape {one.shape}."
                )
            spk = spk * jax.nn.one_hot(jnp.argmax(gap, axis=-1), gap.shape[-1], dtype=gap.dtype)
        return spk


class AbstractResettingCell(AbstractSpikingCell):
    """Base class of spiking cells whose membrane potential is reset after a spike.

    A reset one step after the spike is constant under differentiation. With `reset_delay=False`,
    the surrogate gradient of the spike also passes through its reset, as in snnTorch.

    **Arguments:** the fields of [`AbstractSpikingCell`][], `reset`, `v_reset` and `state_quant` are
    keyword arguments of every such cell. They are described in [`eventsnn.discrete.Leaky`][].
    """

    reset: ResetName = eqx.field(
        default="subtract", converter=reset_name, static=True, kw_only=True
    )
    v_reset: Float[Array, "*neurons"] = eqx.field(
        default=0.0, converter=to_parameter("v_reset"), kw_only=True
    )
    state_quant: Callable[[Array], Array] | None = eqx.field(
        default=None, converter=state_quantiser, kw_only=True
    )

    def __check_init__(self):
        if not checks.is_concrete(self.v_reset):
            return
        if self.reset != "set":
            good = 'must be 0 unless reset is "set"'
            checks.raise_if("v_reset", self.v_reset, self.v_reset != 0, good)
        check_broadcast("v_reset", self.v_reset, "threshold", self.threshold)
        if checks.is_concrete(self.threshold):
            v, threshold = (
                np.asarray(checks.unwrapped(x), float) for x in (self.v_reset, self.threshold)
            )
            checks.raise_if("v_reset", self.v_reset, v >= threshold, "must be below threshold")

    @property
    def linear(self) -> bool:
        """Return true without reset and quantisation, which prevent a parallel evaluation."""
        return self.reset == "none" and self.state_quant is None

    @property
    def sets(self) -> bool:
        """Return true if a reset sets the membrane potential to a value, 0 or `v_reset`."""
        return self.reset in ("zero", "set")

    def exceeds(self, mem: Array) -> Array:
        r"""Compute $H(U - \theta)$, which is 1 for neurons above threshold, without gradient.

        `mem` is the membrane potential $U$ of each neuron. The result has its shape and dtype.
        """
        over = mem > parameter_like(self.threshold, mem, "threshold")
        return jax.lax.stop_gradient(over.astype(mem.dtype))

    def reset_by(self, mem: Array, resets: Array) -> Array:
        """Return the membrane potential after a reset.

        **Arguments:**

        - `mem`: membrane potential of each neuron before the reset.
        - `resets`: number of resets of each neuron, of the shape of `mem`: 1 for one reset, 0 for
            none, and -1 to undo a reset by subtraction, or to zero as snnTorch does.
        """
        if self.reset == "subtract":
            return mem - resets * parameter_like(self.threshold, mem, "threshold")
        if self.reset == "zero":
            return mem - resets * mem
        if self.reset == "set":
            fired = jnp.maximum(resets, 0)
            return mem - fired * (mem - parameter_like(self.v_reset, mem, "v_reset"))
        return mem

    def quantised(self, *states: Array) -> tuple[Array, ...]:
        """Return `states`, arrays of any shape, rounded to the levels of `state_quant`.

        Without `state_quant` they are returned unchanged.
        """
        return states if self.state_quant is None else tuple(map(self.state_quant, states))
