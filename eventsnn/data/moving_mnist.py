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
from . import arrays

__all__ = ["NUM_FRAMES", "batches", "default_canvas", "sequences", "test_batches"]

#: Default number of frames per sequence, as in the paper.
NUM_FRAMES = 20

# Upper limit of the canvas in pixels. Whole pixels are exact in float32 far beyond it.
_CANVAS_LIMIT = 2**16

_Frames = Float[Array, "batch num_frames canvas canvas"]
_Labels = Shaped[np.ndarray, " batch"]


def default_canvas(size: int) -> int:
    """Default side length of the canvas in pixels: 64 for digits of 28 pixels, 20 for 8 pixels.

    The ratio 64 : 28 is that of the paper. The result is a multiple of 4.

    **Arguments:**

    - `size`: the longer side of the images in pixels.

    **Raises:** `ValueError` if `size` is not an integer >= 1.
    """
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

    The image is placed at the whole pixels nearest to $p_t$. The motion is that of the published
    code of the paper, with two differences: there, positions are truncated to whole pixels, and a
    digit that reaches a wall stays at the wall until the next frame.

    **Arguments:**

    - `key`: a JAX random key for starts and directions. The motion does not depend on the content
        of the images.
    - `images`: images whose background is 0. Their values and dtype are kept. Use different images
        for training and test sequences.
    - `num_frames`: number of frames per sequence. Default: 20.
    - `canvas`: side length of the square canvas in pixels, larger than the images. Default: None,
        [`default_canvas`][] of the longer side of the images.
    - `speed`: $v$ in pixels per frame, any real number. Default: None, a tenth of the smaller
        component of $r$, as in the code of the paper: 3.6 for MNIST, 1.2 for the digits.

    **Returns:** the frames, one square canvas per frame.

    **Raises:** `ValueError` for an invalid key, images with fewer than two axes or without pixels,
    a canvas that is not larger than the images, `num_frames` < 1, or a speed that is not finite.
    """
    checks.key("key", key)
    images, num_frames, canvas = _check(images, num_frames, canvas)
    speed = _check_speed(speed)
    images = jnp.asarray(images)
    *batch, height, width = images.shape
    corners = _corners(key, tuple(batch), num_frames, (canvas - height, canvas - width), speed)

    def frame(image, corner):
        background = jnp.zeros((canvas, canvas), image.dtype)
        return jax.lax.dynamic_update_slice(background, image, (corner[0], corner[1]))

    each_frame = jax.vmap(jax.vmap(frame, in_axes=(None, 0)))
    frames = each_frame(images.reshape(-1, height, width), corners.reshape(-1, num_frames, 2))
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
) -> Iterator[tuple[_Frames, _Labels]]:
    """Yield batches of `(frames, labels)`, with a new path every time an image occurs.

    The frames are computed batch by batch, on the device.

    **Arguments:**

    - `key`: a JAX random key for the order of the images and for their paths.
    - `images`, `labels`: images whose background is 0, and one label per image.
    - `batch_size`: number of sequences per batch.
    - `num_frames`, `canvas`, `speed`: as for [`sequences`][].
    - `epochs`: number of epochs. Default: None, no end.

    **Raises:** `ValueError` as [`eventsnn.data.arrays.batches`][] and [`sequences`][].
    """
    _, *options = *_check(images, num_frames, canvas), _check_speed(speed)
    _check_labels(images, labels)
    key_order, key_motion = jax.random.split(checks.key("key", key))
    order = arrays.batches(key_order, images, labels, batch_size=batch_size, epochs=epochs)
    move = partial(_sequences, **dict(zip(_OPTIONS, options, strict=True)))
    return ((move(jax.random.fold_in(key_motion, step), x), y) for step, (x, y) in enumerate(order))


def test_batches(
    key: PRNGKeyArray,
    images: Num[np.ndarray, "n h w"],
    labels: Shaped[np.ndarray, " n"],
    *,
    batch_size: int,
    num_frames: int = NUM_FRAMES,
    canvas: int | None = None,
    speed: float | None = None,
) -> Iterator[tuple[_Frames, _Labels, Bool[np.ndarray, " batch"]]]:
    """Yield one sequence per image as `(frames, labels, valid)`, in batches of the same shape.

    `valid` is false for the padding of the last batch, see
    [`eventsnn.data.arrays.padded_batches`][]. The sequences depend on the key, and not on the batch
    size.

    **Arguments:**

    - `key`: a JAX random key for the paths.
    - `images`, `labels`: images whose background is 0, and one label per image.
    - `batch_size`: number of sequences per batch, >= 1.
    - `num_frames`, `canvas`, `speed`: as for [`sequences`][].

    **Raises:** `ValueError` as [`eventsnn.data.arrays.padded_batches`][] and [`sequences`][].
    """
    _, *options = *_check(images, num_frames, canvas), _check_speed(speed)
    _check_labels(images, labels)
    checks.key("key", key)
    move = partial(_numbered, key, **dict(zip(_OPTIONS, options, strict=True)))
    parts = arrays.padded_batches(images, labels, batch_size=batch_size)
    numbers = np.arange(batch_size, dtype=np.uint32)
    return (
        (move(x, i * batch_size + numbers), y, valid) for i, ((x, y), valid) in enumerate(parts)
    )


_OPTIONS = ("num_frames", "canvas", "speed")
_sequences = jax.jit(sequences, static_argnames=_OPTIONS)


@partial(jax.jit, static_argnames=_OPTIONS)
def _numbered(key, images, numbers, *, num_frames, canvas, speed):
    """Make one sequence per image, whose path depends on the key and the number of the image."""
    move = partial(sequences, num_frames=num_frames, canvas=canvas, speed=speed)
    return jax.vmap(move)(jax.vmap(partial(jax.random.fold_in, key))(numbers), images)


def _corners(key, batch, num_frames, room, speed):
    """Upper left corner of the image in each frame, in whole pixels: (*batch, frames, 2).

    `room` is the largest row and column of the corner.
    """
    # Always in float32, so that neither the dtype of the images nor x64 changes the motion.
    room = np.asarray(room, np.float32)
    speed = jnp.asarray(room.min() / 10 if speed is None else speed, jnp.float32)
    key_start, key_angle = jax.random.split(key)
    start = jax.random.uniform(key_start, (*batch, 1, 2), jnp.float32) * room
    angle = jax.random.uniform(key_angle, (*batch, 1), jnp.float32, maxval=2 * np.pi)
    velocity = speed * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    unreflected = start + velocity * jnp.arange(num_frames, dtype=jnp.float32)[:, None]
    return jnp.round(room - jnp.abs(room - unreflected % (2 * room))).astype(jnp.int32)


def _check(images, num_frames, canvas):
    """Check images, number of frames and canvas. Return them, with the default canvas for None."""
    images = checks.numbers("images", images, boolean=True)
    num_frames = checks.count("num_frames", num_frames)
    if images.ndim < 2 or 0 in images.shape[-2:]:
        raise ValueError(f"images must have shape (..., h, w), got shape {images.shape}.")
    size = max(images.shape[-2:])
    canvas = default_canvas(size) if canvas is None else canvas
    if not checks.is_integer_scalar(canvas) or canvas not in range(size + 1, _CANVAS_LIMIT):
        expected = f"an integer > {size}, the longer side of the images"
        too_large = checks.is_integer_scalar(canvas) and canvas > size
        limit = f", and < {_CANVAS_LIMIT}" if too_large else ""
        raise checks.value_error("canvas", canvas, expected + limit)
    return images, num_frames, int(canvas)


def _check_labels(images, labels):
    """Raise unless there is one label per image."""
    shape, found = np.shape(images), checks.numbers("labels", labels, boolean=True).shape
    if len(shape) < 3 or shape[0] == 0 or found[:1] != shape[:1]:
        raise ValueError(
            "images and labels must have one row per sample, at least one, got shapes "
            f"{shape} and {found}."
        )


def _check_speed(speed):
    if speed is None:
        return None
    if isinstance(speed, jax.Array) and speed.ndim == 0:
        return checks.broadcast("speed", speed, (), "a scalar", jnp.float32)
    return checks.number("speed", speed, "a finite number of pixels per frame")
