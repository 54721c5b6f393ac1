"""Pytrees of arrays: structure, shapes and dtypes."""

from typing import Any

import equinox as eqx
import jax


def like(name: str, value: Any, expected: Any, origin: str) -> Any:
    """Return `value`. Raise unless its structure, shapes and dtypes are those of `expected`.

    `origin` is the function that returns such a value.
    """
    if signature(value) != signature(expected):
        raise ValueError(
            f"{name} must be {describe(expected)}, as returned by {origin}, got {describe(value)}."
        )
    return value


def describe(tree: Any) -> str:
    """Description of the shapes and dtypes of a pytree of arrays, in one line."""
    return eqx.tree_pformat(jax.tree.map(_kind, tree), width=10**6, struct_as_array=True)


def signature(tree: Any) -> Any:
    """Structure of a pytree, and shapes and dtypes of its arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [_kind(leaf) for leaf in leaves]


def _kind(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "dtype") else x
