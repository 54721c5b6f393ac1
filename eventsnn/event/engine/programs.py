"""Cache of compiled programs, for calls outside `jax.jit`."""

import functools as ft
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

#: Number of compiled programs in the cache; about 10 MB per program.
PROGRAMS = 32

R = TypeVar("R")


class Static:
    """Hashable wrapper of a pytree with hashable leaves; equal if leaves, their types and the
    structure are."""

    def __init__(self, tree: Any):
        self.tree = tree
        leaves = jax.tree.leaves(tree)
        self._key = tuple(map(type, leaves)), tuple(leaves), jax.tree.structure(tree)

    def __eq__(self, other):
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


@ft.lru_cache(maxsize=PROGRAMS)
def program(fn: Callable, **static) -> Callable:
    """Compile `fn` with these static arguments, and cache the result.

    Without the cache, calls outside `jax.jit` would compile every time. Within `jax.jit`, `fn`
    becomes a part of that program.
    """
    return jax.jit(ft.partial(fn, **static))


def compiled(fn: Callable[..., R], *args: Any) -> R:
    """Call `fn` as one program, instead of one program per array operation.

    The arrays in `args` are arguments of the program, and the rest of them is static: another value
    makes another program. `fn` is a
    function of a module, since the cache compares functions by identity. It returns arrays.
    """
    arrays, rest = eqx.partition(args, lambda x: isinstance(x, jax.Array | np.ndarray))
    return program(_call, call=fn, rest=Static(rest))(arrays)


def _call(arrays: Any, *, call: Callable[..., R], rest: Static) -> R:
    return call(*eqx.combine(arrays, rest.tree))
