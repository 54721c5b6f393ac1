"""Random arrays, and comparison of trees of arrays."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape))


def agree(ours, expected, rtol=1e-12, atol=1e-12):
    """Check that all leaves are close (spikes, 0 or 1, are then equal)."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
