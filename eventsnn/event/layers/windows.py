"""Windows of an image of spike trains."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def windows(
    x: Float[Array, "*batch c h w k"],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Array, "*batch rows columns c kh kw k"]:
    """Gather the windows of an image of spike trains. Channels in the padding are silent."""
    frame = [(0, 0)] * (x.ndim - 3) + [(p, p) for p in padding] + [(0, 0)]
    x = jnp.pad(x, frame, constant_values=jnp.inf) if any(padding) else x
    down, across = (
        np.arange(extent)[:, None] * step + np.arange(length)
        for extent, step, length in zip(extents(x.shape, size, stride), stride, size, strict=True)
    )
    x = jnp.take(jnp.take(x, across, axis=-2), down, axis=-4)
    # The axes are now: ..., c, rows, kh, columns, kw, k.
    return jnp.moveaxis(x, (-5, -3, -6, -4), (-6, -5, -4, -3))


def extents(
    shape: tuple[int, ...], size: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    """Numbers of windows, in rows and columns, of a padded image of shape (..., h, w, k)."""
    h, w = shape[-3:-1]
    return (h - size[0]) // stride[0] + 1, (w - size[1]) // stride[1] + 1
