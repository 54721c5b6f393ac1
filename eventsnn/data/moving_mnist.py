"""Moving digits: one digit moves over a larger canvas and is reflected at its walls.

After Srivastava, Mansimov & Salakhutdinov, Unsupervised Learning of Video Representations using
LSTMs, ICML 2015, arXiv:1502.04681 (Moving MNIST), with one digit instead of two. The task is to
classify the digit.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray, Shaped

from .. import checks
from . import images as stills

NUM_FRAMES = 20

# Limit in pixels. Positions in float32 are exact far beyond it.
_LARGEST_CANVAS = 2**16

Frames = Float[Array, "batch num_frames canvas canvas"]
Labels = Shaped[np.ndarray, " batch"]


def default_canvas(size: int) -> int:
    """Canvas side length for images of `size` pixels: 64 for 28 as in the paper, 20 for 8."""
    return 4 * round(checks.count("size", size) * 16 / 28)


def sequences(
    key: PRNGKeyArray,
    images: Num[Array | np.ndarray, "*batch h w"],
    *,
    num_frames: int = NUM_FRAMES,
    canvas: int | None = None,
    speed: float | Float[Array, ""] | None = None,
) -> Num[Array, "*batch {num_frames} canvas canvas"]:
    r"""Make one sequence of frames per image, each with its own random path.

    The upper left corner of the image starts at a uniformly distributed position $p_0$ in $[0, r]$,
    where $r$ is the side of the canvas minus the size of the image. It moves in a straight line in
    a uniformly distributed direction $\theta$ and is reflected at the walls:

    $$p_t = r - \left|r - \left((p_0 + v t (\sin\theta, \cos\theta)) \bmod 2r\right)\right|$$

    The digit is placed at the whole pixels nearest to $p_t$. The motion is that of the code of the
    paper, except that its code truncates positions to whole pixels and stops a digit that hits a
    wall for the rest of that frame.

    **Arguments:**

    - `key`: random key for starts and directions. The motion does not depend on the content of the
        images.
    - `images`: images with the background 0. Their values are kept. Use different images for
        training and test sequences.
    - `num_frames`: number of frames per sequence. Default: 20.
    - `canvas`: side length of the square canvas in pixels, larger than the images. Default: None,
        [`default_canvas`][] of the longer side of the images.
    - `speed`: $v$ in pixels per frame, any real number. Default: None, a tenth of the smaller
        component of $r$, as in the code of the paper: 3.6 for MNIST, 1.2 for the digits.

    **Raises:** `ValueError` for a canvas that is not larger than the images, `num_frames` < 1, or a
    speed that is not finite.
    """
    checks.key("key", key)
    images, num_frames, canvas = _check(images, num_frames, canvas)
    if isinstance(speed, jax.Array):
        speed = checks.broadcast("speed", speed, (), "a scalar", jnp.float32)
    else:
        speed = _number(speed)
    images = jnp.asarray(images)
    *batch, height, width = images.shape
    corners = _corners(key, tuple(batch), num_frames, (canvas - height, canvas - width), speed)

    def frame(image, corner):
        background = jnp.zeros((canvas, canvas), image.dtype)
        return jax.lax.dynamic_update_slice(background, image, (corner[0], corner[1]))

    film = jax.vmap(jax.vmap(frame, in_axes=(None, 0)))
    frames = film(images.reshape(-1, height, width), corners.reshape(-1, num_frames, 2))
    return frames.reshape(*batch, num_frames, canvas, canvas)


def batches(
    key: PRNGKeyArray,
    images: Num[np.ndarray, "n h w"],
    labels: Shaped[np.ndarray, " n"],
    *,
    batch_size: int,
    num_frames: int = NUM_FRAMES,
    canvas: int | None = None,
    speed: float | None = None,
    epochs: int | None = None,
) -> Iterator[tuple[Frames, Labels]]:
    """Yield batches of `(frames, labels)`, with a new path each time an image occurs.

    The frames are computed batch by batch, on the device.

    **Arguments:**

    - `key`: a JAX random key for the order of the images and for their paths.
    - `images`, `labels`: images with the background 0, and one label per image.
    - `batch_size`: number of sequences per batch.
    - `num_frames`, `canvas`, `speed`: as for [`sequences`][].
    - `epochs`: number of epochs. Default: None, no end.

    **Raises:** `ValueError` as [`eventsnn.data.images.batches`][] and [`sequences`][].
    """
    _, *options = *_check(images, num_frames, canvas), _number(speed)
    key_order, key_motion = jax.random.split(checks.key("key", key))
    order = stills.batches(key_order, images, labels, batch_size=batch_size, epochs=epochs)
    film = partial(_sequences, **dict(zip(_OPTIONS, options, strict=True)))
    return ((film(jax.random.fold_in(key_motion, step), x), y) for step, (x, y) in enumerate(order))


def test_batches(
    key: PRNGKeyArray,
    images: Num[np.ndarray, "n h w"],
    labels: Shaped[np.ndarray, " n"],
    *,
    batch_size: int,
    num_frames: int = NUM_FRAMES,
    canvas: int | None = None,
    speed: float | None = None,
) -> Iterator[tuple[Frames, Labels, Bool[np.ndarray, " batch"]]]:
    """Yield one sequence per image as `(frames, labels, valid)`, in batches of the same shape.

    See [`eventsnn.data.images.test_batches`][]. The sequences depend on the key, and not on the
    batch size.

    **Arguments:**

    - `key`: a JAX random key for the paths.
    - `images`, `labels`: images with the background 0, and one label per image.
    - `batch_size`: number of sequences per batch, >= 1.
    - `num_frames`, `canvas`, `speed`: as for [`sequences`][].
    """
    _, *options = *_check(images, num_frames, canvas), _number(speed)
    checks.key("key", key)
    film = partial(_numbered, key, **dict(zip(_OPTIONS, options, strict=True)))
    parts = stills.test_batches(images, labels, batch_size)
    numbers = np.arange(batch_size, dtype=np.uint32)
    return ((film(x, i * batch_size + numbers), y, valid) for i, (x, y, valid) in enumerate(parts))


_OPTIONS = ("num_frames", "canvas", "speed")
_sequences = jax.jit(sequences, static_argnames=_OPTIONS)


@partial(jax.jit, static_argnames=_OPTIONS)
def _numbered(key, images, numbers, *, num_frames, canvas, speed):
    film = partial(sequences, num_frames=num_frames, canvas=canvas, speed=speed)
    return jax.vmap(film)(jax.vmap(partial(jax.random.fold_in, key))(numbers), images)


def _corners(key, batch, num_frames, room, speed):
    """Upper left corner of the digit in each frame, in whole pixels: (*batch, frames, 2)."""
    # Always in float32, so that neither the dtype of the images nor x64 changes the motion.
    room = np.asarray(room, np.float32)
    speed = jnp.asarray(room.min() / 10 if speed is None else speed, jnp.float32)
    key_start, key_angle = jax.random.split(key)
    start = jax.random.uniform(key_start, (*batch, 1, 2), jnp.float32) * room
    angle = jax.random.uniform(key_angle, (*batch, 1), jnp.float32, maxval=2 * np.pi)
    velocity = speed * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    there = start + velocity * jnp.arange(num_frames, dtype=jnp.float32)[:, None]
    return jnp.round(room - jnp.abs(room - there % (2 * room))).astype(jnp.int32)


def _check(images, num_frames, canvas):
    """Check and return all three, with the default canvas for None."""
    images = checks.numbers("images", images, boolean=True)
    num_frames = checks.count("num_frames", num_frames)
    if images.ndim < 2 or 0 in images.shape[-2:]:
        raise ValueError(f"images must have shape (..., h, w), got shape {images.shape}.")
    size = max(images.shape[-2:])
    canvas = default_canvas(size) if canvas is None else canvas
    if not checks.is_integer_scalar(canvas) or canvas not in range(size + 1, _LARGEST_CANVAS):
        expected = f"an integer > {size}, the longer side of the images"
        too_large = checks.is_integer_scalar(canvas) and canvas > size
        limit = f", and < {_LARGEST_CANVAS}" if too_large else ""
        raise checks.value_error("canvas", canvas, expected + limit)
    return images, num_frames, int(canvas)


def _number(speed):
    expected = "a finite number of pixels per frame"
    return None if speed is None else checks.number("speed", speed, expected)
