"""Checks of a neuron model: its parameters, and the results of its methods."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .arrays import as_floating
from .kinds import Wrapped, is_floating, unwrapped


def parameter_leaves(neuron: PyTree) -> PyTree:
    """Convert the Python floats and NumPy floats among the leaves to JAX arrays.

    Integers, booleans and everything else stay as they are.
    """
    return jax.tree.map(lambda x: as_floating(np.asarray(x)) if _is_number(x) else x, neuron)


def _is_number(x):
    return isinstance(x, float | np.floating) or (isinstance(x, np.ndarray) and is_floating(x))


def neuron_parameters(neuron: PyTree, n: int, dtype) -> PyTree:
    """Convert the parameters of a neuron, also Python floats, to the dtype of the weights.

    Raise unless each is a scalar or has shape `(n,)`. Each parameter is copied to its own buffer.
    """

    def one(path, x):
        if not eqx.is_inexact_array(x):
            return x
        if x.shape not in ((), (n,)):
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".raw")
            raise ValueError(
                f"neuron parameter {name} must be a scalar or have shape ({n},), one value for "
                f"each neuron (or output channel), got shape {x.shape}."
            )
        return jnp.array(x, dtype)

    return jax.tree_util.tree_map_with_path(one, parameter_leaves(neuron))


def neuron_methods(neuron: Any, n: int, dtype: Any) -> None:
    """Raise unless each method of a neuron model returns the structure, shapes and dtypes it must.

    The methods are traced for a batch of samples, and nothing is computed. Models that differ only
    in the values of their parameters are traced once.
    """
    kinds = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if eqx.is_array(x) else x, neuron
    )
    try:
        hash(kinds)
    except (TypeError, RecursionError):  # a field cannot be hashed, or is a function of the class
        check = _check_methods.__wrapped__
    else:
        check = _check_methods
    check(kinds, n, jnp.dtype(dtype), jnp.result_type(float))


@ft.lru_cache(maxsize=256)
def _check_methods(neuron, n, dtype, default):
    """Check a neuron whose arrays have shapes and dtypes only.

    `default` is the dtype of `jnp.zeros(n)`, on which the results may depend.
    """
    state = _traced(neuron, "init_state", lambda neuron: _plain(neuron).init_state(n))
    leaves = jax.tree.leaves(state)
    if not leaves or not all(_is_state(x, n) for x in leaves):
        wanted = f"one or several floating-point arrays of shape ({n},)"
        raise _wrong(neuron, "init_state", wanted, state)
    shape = (n, 3 if n == 2 else 2)  # the number of samples differs from that of neurons
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(shape, x.dtype), state)
    gap = jax.ShapeDtypeStruct(shape, jnp.result_type(*(x.dtype for x in leaves)))
    receptors = (neuron.receptors,) if neuron.receptors > 1 else ()
    weights = jax.ShapeDtypeStruct((*receptors, *shape), dtype)
    spiked = jax.ShapeDtypeStruct(shape, bool)
    for method, wanted, arguments in (
        ("vector_field", state, ()),
        ("threshold_gap", gap, ()),
        ("receive", state, (weights,)),
        ("reset", state, (spiked,)),
        ("observe", gap, ()),
        ("normalise", state, ()),
    ):
        found = _traced(neuron, method, _for_batches(method), state, *arguments)
        if not _same(found, wanted):
            given = f"for a state {_text(state)} of {n} neurons in {shape[1]} samples"
            raise _wrong(neuron, method, f"{_text(wanted)} {given}", found)


def _for_batches(method):
    """Call a method of a neuron with the shapes of a simulation of several samples."""

    def call(neuron, *arguments):
        wide = jax.tree.map(
            lambda x: x[:, None] if eqx.is_array(x) and x.ndim == 1 else x, _plain(neuron)
        )
        return getattr(wide, method)(*arguments)

    return call


def _plain(neuron):
    """Replace wrapped parameters by their values."""
    return jax.tree.map(unwrapped, neuron, is_leaf=lambda x: isinstance(x, Wrapped))


def _traced(neuron, method, call, *arguments):
    """Trace a method. An error in it names the method."""
    try:
        return eqx.filter_eval_shape(call, neuron, *arguments)
    except Exception as error:
        error.add_note(f"The error occurred in {type(neuron).__name__}.{method}.")
        raise


def _is_state(x, n):
    return getattr(x, "shape", None) == (n,) and jnp.issubdtype(x.dtype, jnp.floating)


def _same(found, wanted):
    """Return whether two pytrees agree in structure, shapes and dtypes."""
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all(hasattr(x, "shape") and (x.shape, x.dtype) == (y.shape, y.dtype) for x, y in pairs)


def _wrong(neuron, method, wanted, found):
    name = f"{type(neuron).__name__}.{method}"
    return ValueError(f"{name} must return {wanted}, got {_text(found)}.")


def _text(tree):
    return eqx.tree_pformat(tree, width=10**6, struct_as_array=True)
