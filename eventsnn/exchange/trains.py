"""Spike trains as event lists of NIR, and back."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from .. import checks
from ..encoders import from_events
from .package import nir_package


def to_event_data(
    times: Real[ArrayLike, "*samples channels k"] | Sequence, *, t_max: float, unit: float = 1e-3
) -> Any:
    """Convert spike trains to an event list, `nir.data_ir.EventData`.

    The events of a sample are in ascending order, padded with the index -1 and the time `inf`.

    **Arguments:**

    - `times`: spike times of shape `(channels, k)` or `(samples, channels, k)`, >= 0, in any order,
        padded with `inf`.
    - `t_max`: end of the recording, > 0, in the same unit.
    - `unit`: unit of `times` and `t_max` in seconds; event lists are in seconds. Default: 1e-3,
        milliseconds.

    **Returns:** a `nir.data_ir.EventData` with the fields `idx` and `time` of shape
    `(samples, events)`, `n_neurons` and `t_max`.

    **Raises:** `ValueError` for times of another shape, NaN or negative times, and times after
    `t_max`. `ModuleNotFoundError` if the package `nir` is not installed.
    """
    nir = nir_package()
    end, unit = checks.positive("t_max", t_max), checks.positive("unit", unit)
    x = checks.numbers("times", times)
    if x.ndim not in (2, 3):
        raise ValueError(
            f"times must have shape (channels, k) or (samples, channels, k), got shape {x.shape}."
        )
    expected = f"in [0, t_max = {end:g}], or inf, and not NaN"
    checks.check_elements("times", x, lambda t: (t >= 0) & ((t <= end) | (t == np.inf)), expected)
    x = np.asarray(x, float)
    channels, k = x.shape[-2:]
    x = x.reshape(-1, channels * k)
    order = np.argsort(x, axis=-1, kind="stable")[:, : int(np.isfinite(x).sum(-1).max(initial=0))]
    x = np.take_along_axis(x, order, axis=-1)
    idx = np.where(np.isfinite(x), order // max(k, 1), -1)
    return nir.data_ir.EventData(idx=idx, time=x * unit, n_neurons=channels, t_max=end * unit)


def from_event_data(
    data: Any, *, unit: float = 1e-3, max_spikes: int | None = None
) -> Float[Array, "samples channels k"]:
    """Convert an event list, `nir.data_ir.EventData`, to spike trains.

    **Arguments:**

    - `data`: a `nir.data_ir.EventData`, with events in any order.
    - `unit`: unit of the spike times in seconds. Default: 1e-3, milliseconds.
    - `max_spikes`: length of the last axis. None (the default): the largest number of spikes of a
        channel, and at least 1.

    **Returns:** spike times of shape `(samples, channels, max_spikes)`, in ascending order, padded
    with `inf`. They are those given to [`eventsnn.to_event_data`][], exactly in float32, and in
    float64 up to the rounding of the unit.

    **Raises:** `ValueError` for events with values (`ValuedEventData`), indices of no neuron, times
    that are NaN or negative, or a channel with more than `max_spikes` spikes.
    `ModuleNotFoundError` if the package `nir` is not installed.
    """
    nir = nir_package()
    valued = isinstance(data, nir.data_ir.ValuedEventData)
    expected = "a nir.data_ir.EventData, without values of the events"
    checks.instance("data", None if valued else data, nir.data_ir.EventData, expected)
    unit, most = checks.positive("unit", unit), checks.count_or_none("max_spikes", max_spikes)
    idx, time, n = np.asarray(data.idx), np.asarray(data.time, float), int(data.n_neurons)
    within = f"in 0 ... {n - 1}, or -1 for no event"
    checks.check_elements("data.idx", idx, lambda i: (i >= -1) & (i < n), within)
    real = idx >= 0
    wrong = real & ~((time >= 0) & (time < np.inf))
    checks.raise_if("data.time", time, wrong, "must be finite and >= 0")
    samples, events = np.nonzero(real)
    return jnp.asarray(
        from_events(
            time[samples, events] / unit,
            idx[samples, events],
            n_channels=n,
            samples=samples,
            n_samples=len(idx),
            max_spikes=most,
        )
    )
