"""Fingerprints of a batch and of an optimiser, by which a resumed run recognises other ones."""

import hashlib
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

# Addresses of objects in the text of a traced program. They differ between processes.
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def of_batch(batch: Any) -> str:
    """Fingerprint of the structure, shapes, dtypes and values of a batch."""
    leaves, structure = jax.tree.flatten(batch)
    return _digest(str(structure), leaves)


def of_optimizer(optimizer: optax.GradientTransformation, trained: PyTree) -> str:
    """Fingerprint of the update of an optimiser, including its hyperparameters and schedules.

    The hyperparameters of an Optax optimiser are variables of its functions. They are constants of
    the traced update, or, with `optax.inject_hyperparams`, numbers in the initial state. The traced
    update depends on the [`versions`][] of the packages, and not on the values of `trained`.
    """
    arrays, static = eqx.partition(optimizer.init(trained), eqx.is_array)

    def update(trained, arrays):
        found = optimizer.update(trained, eqx.combine(arrays, static), trained)
        return eqx.filter(found, eqx.is_array)

    program = jax.make_jaxpr(update)(trained, arrays)
    numbers = [x for x in jax.tree.leaves(arrays) if x.ndim == 0]
    return _digest(_ADDRESS.sub("", str(program)), [*numbers, *program.consts])


def versions() -> str:
    """Versions of the packages on which the fingerprint of an optimiser depends."""
    return f"JAX {jax.__version__}, Optax {optax.__version__}"


def _digest(text: str, arrays: list[Any]) -> str:
    found = hashlib.sha256(text.encode())
    for x in arrays:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        x = np.asarray(x)
        found.update(f"{x.dtype}{x.shape}".encode())
        found.update(x.tobytes())
    return found.hexdigest()
