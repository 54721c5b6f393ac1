"""Calls of stateless layers, and descriptions of layers and their inputs for error messages."""

import inspect
from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from .. import checks
from ..constraints import unwrap

Layer = TypeVar("Layer", bound=eqx.Module)


def call_layer(layer: Any, x: Any, key: PRNGKeyArray | None) -> Any:
    """Output of a stateless layer. Pass `key` to modules that accept it."""
    return layer(x, key=key) if takes_key(layer) else layer(x)


def takes_key(layer: Any) -> bool:
    """Return whether a layer is a module whose call has an argument `key`."""
    if not (isinstance(layer, eqx.Module) and callable(layer)):
        return False
    taken = inspect.signature(layer).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in taken)


def with_dtype(layer: Layer, dtype: Any) -> Layer:
    """Unwrap the weights of a layer and convert them to the dtype of its input."""
    weights, rest = eqx.partition(unwrap(layer), eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda w: w.astype(dtype), weights), rest)


def callable_instance(name: str, value: Any) -> Any:
    """Return `value`. Raise unless it is callable and not a class."""
    if isinstance(value, type):
        raise ValueError(
            f"{name} must be an instance, such as {value.__name__}(...), got the class "
            f"{value.__name__}."
        )
    return checks.function(name, value, "a callable")


def first_line(error: Exception) -> str:
    """First line of an error message, without its full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
