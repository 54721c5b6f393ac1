"""Training by gradient steps: many steps per dispatch, each spread over the local devices."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree
from tqdm import tqdm

from .. import checks
from . import diagnosis
from .batches import feed, peek
from .run import Record, Run, State, many_steps
from .step import (
    AXIS,
    MODEL_FUNCTION,
    REPLICATED,
    LossFn,
    batch_size,
    data_parallel,
    device_list,
    gradient_step,
    mesh_for,
    scalar,
    trained_part,
)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The outcome of [`fit`][], or of its first steps if it did not get to the end."""

    model: Any
    """The trained model, on the first of the devices."""
    average: Any
    """The same with its trained parameters averaged over the models after each of the last
    `average` steps (of those that were made); `None` without `average` or such steps."""
    losses: np.ndarray
    """The loss of each step's batch before that step, of shape `(steps,)`."""
    monitored: np.ndarray | None
    """The values of `monitor` there, of shape `(steps,)`; `None` without `monitor`."""
    snapshots: PyTree
    """The values of `snapshot(model)`, stacked along a new first axis; `None` without `snapshot`.
    """
    snapshot_steps: np.ndarray
    """The number of steps before each snapshot."""
    compile_seconds: float
    """Tracing and compiling, before the first step."""
    steps_per_second: float
    """Steps per second at the end of training: the median dispatch of the last fifth of the run;
    0 if there was none."""
    n_devices: int
    """The number of devices that shared each batch."""


def fit(
    model: Any,
    batches: Iterable[Any],
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    chunk: int = 20,
    filter_spec: PyTree = eqx.is_inexact_array,
    devices: Sequence[jax.Device] | None = None,
    snapshot: Callable[[Any], PyTree] | None = None,
    snapshot_every: int | None = None,
    average: int | None = None,
    monitor: LossFn | None = None,
    outputs: Callable[[Any, Any], Array] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train `model` for `steps` batches; show loss and speed on the way.

    `chunk` steps run in one dispatch, so that a small model is not held up by Python between its
    steps. The model handed in is left as it is.

    **Arguments:**

    - `batches`: yields at least `steps` batches of the same shapes, in host or device memory; only
        `steps` are taken.
    - `loss_fn`, `optimizer`, `filter_spec`, `devices`: as for [`make_step`][].
    - `chunk`: steps per dispatch.
    - `snapshot`: picks the arrays to record, e.g. `lambda net: net.weights`.
    - `snapshot_every`: record them every so many steps, a multiple of `chunk` (the default); in
        any case also before the first step and after the last.
    - `average`: also give the mean of the models after each of the last so many steps. At a
        constant step size the parameters end on a walk around the optimum, of
        which the mean is closer to it than the end (Polyak & Juditsky, SIAM J. Control Optim.
        30:838, 1992).
    - `monitor`: a second function `(model, batch) -> scalar`, a mean over the batch like the loss,
        to record at each step and not to train on: the loss of a test batch that travels with
        the batch, say.
    - `outputs`: `(model, batch) -> outputs` as for [`diagnose`][], for the message when training
        goes wrong; it is called only then. Default: first spikes of the one
        [`eventsnn.EventNetwork`][] in the model, for the first array of the shape
        `(batch, n_inputs, k)` in the batch; none where there is no such pair.
    - `progress`: show a progress bar on stderr.

    **Raises:** `ValueError` for an argument that does not fit, for batches of several shapes and
    when `batches` ends early; `FloatingPointError` for a trained parameter that is NaN to begin
    with, and at the first step at which the loss or an updated parameter is not finite. The message
    names the step, what is not finite, what was found in the batch and its outputs, and what to
    try.

    A `UserWarning` with the same contents is issued, once each, where all gradients are exactly 0
    and the loss is not, and where an output of an event network is silent and has had no gradient
    for 20 steps (or for all steps of a shorter run).

    An exception that ends the training, `KeyboardInterrupt` included, has an attribute `result`: a
    [`FitResult`][] of the steps so far. Its model is the one before the bad step, or the one after
    the last completed dispatch:

    ```python
    try:
        result = fit(...)
    except (FloatingPointError, KeyboardInterrupt) as error:
        result = error.result
    ```
    """
    checks.flag("progress", progress)
    for name, fn in (("snapshot", snapshot), ("monitor", monitor), ("outputs", outputs)):
        if fn is not None:
            checks.function(name, fn, MODEL_FUNCTION)
    record = Record(*_check_counts(steps, chunk, snapshot_every, average), snapshot)
    devices = device_list(devices)
    first, batches = peek(batches)
    mesh = mesh_for(batch_size(first, "batches"), devices)
    devices = list(mesh.devices)
    step = gradient_step(loss_fn, optimizer, filter_spec, devices)
    watch = None if monitor is None else data_parallel(scalar("monitor", monitor), devices)
    trained = trained_part(model, filter_spec)
    arrays, static = eqx.partition((model, optimizer.init(trained)), eqx.is_array)
    arrays, trained = _place((arrays, trained), NamedSharding(mesh, REPLICATED))
    total = None if average is None else jax.tree.map(jnp.zeros_like, trained)

    def trained_of(arrays):
        return eqx.filter(eqx.combine(arrays, static)[0], filter_spec)

    record.look(model, 0)
    program = jax.jit(many_steps(step, watch, static, trained_of, _finite_leaves(trained)))
    run = Run(program, static, State(arrays, total, 0), record, outputs, trained_of, devices)
    stacked = feed(
        batches, record.steps, record.chunk, NamedSharding(mesh, PartitionSpec(None, AXIS))
    )
    with tqdm(total=record.steps, unit="step", disable=not (progress and _can_show())) as bar:
        try:
            _train(run, stacked, bar)
        except BaseException as error:
            with contextlib.suppress(AttributeError):
                error.result = _result(run)  # pyright: ignore[reportAttributeAccessIssue]
            raise
    return _result(run)


def _result(run):
    model, average = run.models()
    return FitResult(model, average, n_devices=run.n_devices, **run.record.result(run.state.done))


def _train(run, feed, bar):
    bar.set_description("compiling")
    batch, count = next(feed)
    run.compile(batch)
    bar.set_description("training")
    bar.unpause()
    while batch is not None:
        launched = run.launch(batch, count)
        try:
            # The devices are at work now: the time to lay out what comes next.
            following = next(feed, (None, 0))
        finally:
            run.finish(launched)
        bar.set_postfix_str(f"loss {run.record.last_loss():.3g}", refresh=False)
        bar.update(count)
        batch, count = following


def _place(arrays, sharding):
    """The arrays on the devices, of the exact types that a step returns."""
    return jax.tree.map(lambda x: jax.device_put(jnp.asarray(x, dtype=x.dtype), sharding), arrays)


def _finite_leaves(trained):
    """Which of the parameters that train are finite to begin with."""
    names = diagnosis.paths_of(trained, lambda x: np.isnan(x).any())
    if names:
        listed = diagnosis.listed(names)
        raise FloatingPointError(f"parameters are NaN before the first step: {listed}.")
    return [bool(np.isfinite(np.asarray(x)).all()) for x in jax.tree.leaves(trained)]


def _can_show():
    """Whether there is a stderr for a progress bar (a closed one is None, or closed)."""
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def _check_counts(steps, chunk, snapshot_every, average):
    steps, chunk = checks.count("steps", steps), checks.count("chunk", chunk)
    for name, value in (("snapshot_every", snapshot_every), ("average", average)):
        if value is not None:
            checks.count(name, value)
    if average is not None and average > steps:
        raise ValueError(f"average must be at most steps = {steps}, got {average}.")
    if snapshot_every is not None and snapshot_every % chunk:
        raise ValueError(
            f"snapshot_every must be a multiple of chunk, got {snapshot_every} with chunk={chunk}."
        )
    chunk = min(chunk, steps)
    return steps, chunk, snapshot_every or chunk, average
