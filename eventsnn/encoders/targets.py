"""What the outputs should do, step by step: targets for spikes and for membranes."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int, Real

from ..checks import (
    as_floating,
    broadcast,
    flag,
    is_integer,
    number,
    numbers,
    real_dtype,
    refuse_values,
    shown,
    whole,
)
from .trains import latency


def one_hot(
    labels: Int[ArrayLike, "*batch"], num_classes: int, *, dtype: DTypeLike = float
) -> Float[Array, "*batch {num_classes}"]:
    """1 at the label, 0 at the other classes.

    **Raises:** `ValueError` for labels that are no integers in 0 ... `num_classes` - 1. A label
    that is out of range under `jax.jit` gives zeros.

    The counterpart of snnTorch's `to_one_hot`. Its inverse is `jnp.argmax(..., -1)`.
    """
    classes, dtype = whole("num_classes", num_classes), real_dtype("dtype", dtype)
    found = numbers("labels", labels, "integers")
    if not is_integer(found):
        raise ValueError(f"labels must be integers, got {found.dtype} {shown(found)}.")
    expected = f"in 0 ... {classes - 1}"
    refuse_values("labels", found, lambda v: (v >= 0) & (v < classes), expected)
    return jax.nn.one_hot(jnp.asarray(found), classes, dtype=dtype)


def levels(
    spikes: Real[ArrayLike, "*shape"], *, on_target: float = 1.0, off_target: float = 0.0
) -> Float[Array, "*shape"]:
    """`on_target` where there is a spike, `off_target` elsewhere: a target for a membrane.

    snnTorch raises every value to at least `off_target` instead, so that a negative one has no
    effect.

    **Raises:** `ValueError` for spikes that are no real numbers or NaN, and targets that are not
    finite or do not broadcast to the shape of the spikes.
    """
    spikes = _train(spikes)
    on, off = _values(on_target, off_target, spikes)
    return jnp.where(spikes > 0, on, off)


def ramps(
    spikes: Real[ArrayLike, " time *channels"],
    *,
    on_target: float = 1.0,
    off_target: float = 0.0,
) -> Float[Array, " time *channels"]:
    r"""A target for a membrane that rises in a straight line up to each spike:

    $$y_t = \text{off} + (\text{on} - \text{off}) \frac{t - p - 1}{q - p - 1}$$

    where q is the next spike at or after t, and p the last one before t (-1 if there is none). At
    a spike it is `on_target`, and after the last one `off_target`.

    **Arguments:**

    - `spikes`: a train, time first; each channel on its own.

    The counterpart of snnTorch's `rate_interpolate` and, for a train with one spike a channel, of
    its `latency_interpolate`.

    **Raises:** as [`levels`][], and `ValueError` for spikes without an axis of time.
    """
    spikes = _train(spikes)
    if spikes.ndim == 0:
        raise ValueError("spikes must have the time as their first axis, got shape ().")
    on, off = _values(on_target, off_target, spikes)
    steps, fired = spikes.shape[0], spikes > 0
    now = jnp.arange(steps).reshape(-1, *(1,) * (spikes.ndim - 1))
    upcoming = jax.lax.cummin(jnp.where(fired, now, steps), reverse=True)
    latest = jax.lax.cummax(jnp.where(fired, now, -1))
    start = 1 + jnp.concatenate([jnp.full_like(latest[:1], -1), latest[:-1]])
    share = ((now - start) / jnp.maximum(upcoming - start, 1)).astype(spikes.dtype)
    rising = off + (on - off) * share
    flat = levels(spikes, on_target=on_target, off_target=off_target)
    return jnp.where(fired | (upcoming == steps), flat, rising)


def targets_rate(
    labels: Int[ArrayLike, "*batch"],
    num_classes: int,
    num_steps: int,
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    on_target: float = 1.0,
    off_target: float = 0.0,
    first_spike_time: int = 0,
    interpolate: bool = False,
    dtype: DTypeLike = float,
) -> Float[Array, "{num_steps} *batch {num_classes}"]:
    r"""Regular trains: a neuron with rate r spikes in the steps
    $\lfloor t_0 + k / r \rfloor,\ k = 0, 1, \dots$

    **Arguments:**

    - `labels`: the correct class, an integer in 0 ... `num_classes` - 1.
    - `correct_rate`, `incorrect_rate`: spikes a step of the correct neuron and of all the others,
        in [0, 1], the first not less than the second.
    - `on_target`, `off_target`, `interpolate`: the train's [`levels`][], or its [`ramps`][].
    - `first_spike_time`: the step $t_0$ of everybody's first spike.

    **Returns:** the targets, always with the time first. (snnTorch leaves it out where the target
    is the same at every step, skips the ramp where the rates are 1 and 0, and for all other rates
    returns a wrong shape or fails.)

    **Raises:** `ValueError` for options and labels out of range.

    The counterpart of snnTorch's `targets_rate` with the regular pattern. Its Poisson pattern is
    [`rate`][] of the two probabilities; its uniform one, of which coinciding spikes are lost, has
    no counterpart.
    """
    steps = whole("num_steps", num_steps)
    first = whole("first_spike_time", first_spike_time, 0, steps - 1)
    flag("interpolate", interpolate)
    real_dtype("dtype", dtype)
    correct = number("correct_rate", correct_rate, "a number in [0, 1]", lambda v: 0 <= v <= 1)
    expected = f"a number in [0, correct_rate = {correct}]"
    incorrect = number("incorrect_rate", incorrect_rate, expected, lambda v: 0 <= v <= correct)
    is_correct = one_hot(labels, num_classes, dtype=bool)
    times = (-1, *(1,) * is_correct.ndim)
    trains = (
        jnp.asarray(_regular(r, steps, first), dtype).reshape(times) for r in (correct, incorrect)
    )
    shape = ramps if interpolate else levels
    right, wrong = (shape(s, on_target=on_target, off_target=off_target) for s in trains)
    return jnp.where(is_correct, right, wrong)


def targets_latency(
    labels: Int[ArrayLike, "*batch"],
    num_classes: int,
    num_steps: int,
    *,
    tau: float = 1.0,
    threshold: float = 0.01,
    mode: Literal["log", "linear"] = "log",
    normalize: bool = False,
    clip: bool = False,
    on_target: float = 1.0,
    off_target: float = 0.0,
    first_spike_time: float = 0.0,
    interpolate: bool = False,
    dtype: DTypeLike = float,
) -> Float[Array, "{num_steps} *batch {num_classes}"]:
    """The correct neuron spikes first, the others late: the [`latency`][] code of [`one_hot`][].

    **Arguments:** as for [`latency`][] and [`targets_rate`][]. With `clip` the other neurons do
    not spike, also where `interpolate` is true (snnTorch then makes their ramps all the same).

    The counterpart of snnTorch's `targets_latency`, but a neuron whose spike falls behind the last
    step stays at `off_target` (there, one that would spike at step `num_steps` has a ramp).
    """
    flag("interpolate", interpolate)
    spikes = latency(
        one_hot(labels, num_classes, dtype=dtype),
        num_steps,
        tau=tau,
        threshold=threshold,
        mode=mode,
        normalize=normalize,
        clip=clip,
        first_spike_time=first_spike_time,
    )
    shape = ramps if interpolate else levels
    return shape(spikes, on_target=on_target, off_target=off_target)


def _train(spikes) -> Array:
    """Spikes in floating point, refused where they are NaN: that is neither a spike nor none."""
    spikes = numbers("spikes", spikes, boolean=True)
    refuse_values("spikes", spikes, lambda v: v == v, "numbers, not NaN")
    return as_floating(spikes)


def _values(on_target, off_target, spikes) -> tuple[Array, Array]:
    """What a train becomes at its spikes and elsewhere."""
    on, off = (
        broadcast(name, value, spikes.shape, "spikes", spikes.dtype)
        for name, value in (("on_target", on_target), ("off_target", off_target))
    )
    return on, off


def _regular(rate: float, steps: int, first: int) -> np.ndarray:
    """A train of `steps` booleans with a spike every 1 / `rate` steps."""
    train = np.zeros(steps, bool)
    if rate > 0:
        # Rounded, since a rate such as 0.7 is not exact in binary and 7 / 0.7 has to be 10.
        times = np.round(first + np.arange(steps) / rate, 6)
        train[times[times < steps].astype(int)] = True
    return train
