"""Functions of spike trains without neurons: pooling, flattening and merging."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Real

from ... import checks
from .windows import windows

Images = Real[ArrayLike, "*batch c h w k"] | Sequence


class EventPool2d(eqx.Module):
    """Pooling of an image of spike trains: the spikes of each window become one train.

    By default all spikes of the window pass. With `max_spikes`, the earliest ones pass: for
    `max_spikes=1` this is the counterpart of max pooling, since in a latency code the largest value
    fires first. The gradient of each spike that passes is that of the input spike.
    """

    size: tuple[int, int] = eqx.field(static=True)
    stride: tuple[int, int] = eqx.field(static=True)
    padding: tuple[int, int] = eqx.field(static=True)
    max_spikes: int | None = eqx.field(static=True)

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        max_spikes: int | None = None,
    ):
        """**Arguments:**

        - `size`: height and width of the windows, one integer or two.
        - `stride`: distance between windows, one integer or two. None (the default): the size.
        - `padding`: number of silent rows and columns that are added on each side; 0 by default.
        - `max_spikes`: number of spikes of each window that pass, the earliest ones. None (the
            default): all spikes.

        **Raises:** `ValueError` for a size, stride or number of spikes < 1, or a padding < 0.
        """
        self.size = checks.pair("size", size, 1)
        self.stride = self.size if stride is None else checks.pair("stride", stride, 1)
        self.padding = checks.pair("padding", padding, 0)
        self.max_spikes = checks.count_or_none("max_spikes", max_spikes)

    def __call__(self, in_times: Images) -> Float[Array, "*batch c rows columns spikes"]:
        """Spike trains of the windows, of shape `(..., c, rows, columns, spikes)`.

        **Arguments:**

        - `in_times`: spike times of shape `(..., c, h, w, k)`, in any order, padded with inf.

        **Returns:** the `max_spikes` earliest times in ascending order or, without `max_spikes`,
        all `kh * kw * k` times of each window, row by row.

        **Raises:** `ValueError` for fewer than four axes, or an image smaller than the windows.
        """
        x = checks.image_of_trains(in_times, self.size, self.padding)
        x = jnp.moveaxis(windows(x, self.size, self.stride, self.padding), -4, -6)
        x = lax.collapse(x, -3)
        if self.max_spikes is None:
            return x
        missing = max(self.max_spikes - x.shape[-1], 0)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=jnp.inf)
        if self.max_spikes == 1:  # of equal times, the first one passes
            return jnp.take_along_axis(x, jnp.argmin(x, axis=-1, keepdims=True), axis=-1)
        invalid = jnp.any(jnp.isnan(x), axis=-1, keepdims=True)  # sorted after inf
        return jnp.where(invalid, jnp.nan, jnp.sort(x, axis=-1)[..., : self.max_spikes])


class EventFlatten(eqx.Module):
    """Conversion of an image of spike trains, `(..., c, h, w, k)`, to `(..., c * h * w, k)`."""

    def __call__(self, in_times: Images) -> Float[Array, "*batch channels k"]:
        """Flatten the axes c, h and w, in this order.

        **Arguments:**

        - `in_times`: spike times of shape `(..., c, h, w, k)`.

        **Raises:** `ValueError` for fewer than four axes.
        """
        x = checks.image_of_trains(in_times)
        return lax.collapse(x, -4, -1)


def merge(trains: Sequence[Real[ArrayLike, "*channels _"]]) -> Float[Array, "*channels spikes"]:
    """Merge spike trains of the same channels, for skip connections and branches.

    Each channel of the result has the spikes of this channel in all arrays. To concatenate
    channels instead, use `jnp.concatenate(trains, axis=-2)`.

    **Arguments:**

    - `trains`: arrays of spike times of shape `(..., channels, k)`; `k` may differ between them.

    **Returns:** an array of shape `(..., channels, spikes)`, with the sum of all `k`. The times are
    in the order of `trains`: layers accept times in any order.

    **Raises:** `ValueError` if `trains` is empty, or its shapes differ before the last axis.
    """
    expected = (
        "a sequence of at least one array of spike times, of equal shapes before the last axis"
    )
    if not isinstance(trains, Sequence):
        raise checks.value_error("trains", trains, expected)
    parts = [checks.as_floating(checks.numbers("trains", x, expected)) for x in trains]
    if not parts or any(x.ndim < 2 or x.shape[:-1] != parts[0].shape[:-1] for x in parts):
        shapes = ", ".join(str(x.shape) for x in parts)
        raise ValueError(f"trains must be {expected}, got shapes [{shapes}].")
    return jnp.concatenate([jnp.asarray(x) for x in parts], axis=-1)
