"""Training loop: many gradient steps per dispatch, each batch split across the local devices."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray, PyTree
from tqdm import tqdm

from .. import checks
from .batches import peek, stacked_batches
from .callbacks import Callback, Callbacks
from .checkpoints import Checkpoints
from .dispatch import State, many_steps
from .history import History
from .run import TrainingRun
from .selection import resolved_filter, trained_part
from .step import (
    AXIS,
    REPLICATED,
    LossFn,
    batch_size,
    data_parallel,
    device_list,
    gradient_step,
    mesh_for,
    scalar,
    with_key,
)
from .wording import listed, paths_of


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Result of [`fit`][], or of the completed steps if training was interrupted."""

    model: Any
    """Trained model, on the first of the devices."""
    average: Any
    """Model with its trained parameters averaged over the last `average` steps, as far as they were
    completed. `None` if none of them was completed, or without `average`."""
    losses: np.ndarray
    """Loss of the batch of each step, before the parameter update, of shape `(steps,)`."""
    monitored: np.ndarray | None
    """Values of `monitor` before each update, of shape `(steps,)`. `None` without `monitor`."""
    gradient_norms: np.ndarray | None
    """Norm of the gradient at each step, of shape `(steps,)`. `None` unless it is recorded."""
    learning_rates: np.ndarray | None
    """Learning rate at each step, of shape `(steps,)`, for an optimiser that is made by
    `optax.inject_hyperparams`. `None` for others."""
    snapshots: PyTree
    """Values of `snapshot(model)`, stacked along a new first axis. `None` without `snapshot`."""
    snapshot_steps: np.ndarray
    """Number of completed steps at each snapshot."""
    compile_seconds: float
    """Time for tracing and compiling, before the first step."""
    steps_per_second: float
    """Steps per second at the end of training: the median over the dispatches in the last fifth of
    the run. 0 without a dispatch."""
    n_devices: int
    """Number of devices that shared each batch."""


def fit(
    model: Any,
    batches: Iterable[Any],
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    key: PRNGKeyArray | None = None,
    steps_per_dispatch: int = 20,
    filter_spec: PyTree = None,
    devices: Sequence[jax.Device] | None = None,
    snapshot: Callable[[Any], PyTree] | None = None,
    snapshot_every: int | None = None,
    average: int | None = None,
    monitor: LossFn | None = None,
    outputs: Callable[..., Array] | None = None,
    gradient_norms: bool = False,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train a model, one gradient step per batch, with a progress bar of loss and speed.

    One dispatch runs several steps, which avoids Python overhead between the steps of a small
    model. The original model is not modified. By default weights, biases and delays train.
    Thresholds, time constants and other neuron parameters train only if `filter_spec` selects them.

    **Arguments:**

    - `model`: the model, a pytree.
    - `batches`: iterable of at least `steps` batches of the same shapes, in host or device memory.
        `fit` uses the first `steps` batches.
    - `loss_fn`, `optimizer`, `filter_spec`, `devices`: as for [`make_step`][].
    - `steps`: number of gradient steps.
    - `key`: random key of a stochastic loss, for example of a model with dropout or of a random
        encoding. With a key, `loss_fn`, `monitor` and `outputs` are called with a third argument,
        `loss_fn(model, batch, key)`. In step $i$, counted from 0, this argument is
        `jax.random.fold_in(key, i)`, or the key that [`make_step`][] derives from it for each of
        several devices. Default: None, `loss_fn(model, batch)`.
    - `steps_per_dispatch`: number of steps per dispatch. Default: 20.
    - `snapshot`: function that selects the arrays to record from the model, for example
        `lambda net: net.weights`. Default: None, no snapshots.
    - `snapshot_every`: number of steps between snapshots, a multiple of `steps_per_dispatch`.
        Default: None, `steps_per_dispatch`. There is always a snapshot before the first step and
        after the last step.
    - `average`: number of last steps whose models are averaged for `FitResult.average`. At a
        constant learning rate the parameters fluctuate around the optimum, and their mean is closer
        to the optimum than the last iterate (Polyak & Juditsky, SIAM J. Control Optim. 30:838,
        1992). Default: None, no average.
    - `monitor`: a second function like `loss_fn`, a mean over the batch. Its value is recorded at
        each step and not used for training. It can be the loss of a test batch that is part of
        `batch`. Default: None, nothing is recorded.
    - `outputs`: function `(model, batch) -> outputs`, with outputs as for [`diagnose`][]. It is
        called only for the message of an error or warning. Default: None, the first spikes of the
        only [`eventsnn.EventNetwork`][] in the model, with the first array of shape
        `(batch, n_inputs, k)` in the batch as input. Without such a network or array, no outputs.
    - `gradient_norms`: whether to record the norm of the gradient at each step. Default: False.
    - `callbacks`: functions that are called with a [`Progress`][eventsnn.train.Progress] after each
        dispatch, for example an [`Evaluation`][eventsnn.train.Evaluation]. The training stops after
        a dispatch if one of them returns True. If they have a method `close`, it is called at the
        end. Default: none.
    - `checkpoint`: folder for checkpoints, from which the run can be resumed if it is interrupted.
        They contain the model, the state of the optimiser, all records, and the states of callbacks
        with the methods `pack` and `restore`, see [`Evaluation`][eventsnn.train.Evaluation]. The
        last two are kept. Default: None, no checkpoints.
    - `checkpoint_every`: number of steps between checkpoints. They are written after a dispatch, at
        the end, and if an exception interrupts the run, except a `FloatingPointError`. Default:
        None, about one per minute.
    - `resume`: whether to continue the run of the newest checkpoint in the folder, if there is one.
        All arguments must be those of that run, and `batches` must yield the same batches: those of
        the completed steps are skipped. The result is then the same, bit for bit, as without an
        interruption. Checked are `steps`, `steps_per_dispatch`, `average`, `key`, the shapes and
        dtypes of the model and of the state of the optimiser, the values of the first batch, and
        the hyperparameters and schedules of the optimiser (unless JAX or Optax has another
        version). Not checked are the later batches, the loss and `filter_spec`. The initial values
        of `model` are replaced. A damaged checkpoint is skipped with a warning. Default: False, a
        folder with checkpoints is refused, so that none is lost.
    - `progress`: whether to show a progress bar on stderr. Default: True.

    **Returns:** a [`FitResult`][].

    **Raises:** `ValueError` for an invalid argument, for batches of different shapes, if `batches`
    ends early, for a checkpoint of another run, and for a folder of checkpoints that is in use or
    should not be there. `FloatingPointError` if a trained parameter is NaN before the first step,
    and at the first step at which the loss or an updated parameter is not finite. The message
    names the step, the values that are not finite, the findings about the batch and its outputs,
    and suggestions.

    A `UserWarning` with the same contents is issued once if all gradients are exactly 0 and the
    loss is not. It is also issued once for each output of an event network whose weights have had
    no gradient for 20 steps, or for all steps of a shorter run, if the output is silent in all
    samples of the batch, or if it is a readout whose potential exceeds its initial value in none of
    them, and once if the weights of all outputs have had no gradient, for example those of readouts
    whose input is silent. An output with a gradient in at least one sample of these batches is not
    reported. Warnings do not depend on `progress`.

    An exception that ends the training, including `KeyboardInterrupt`, has an attribute `result`: a
    [`FitResult`][] of the completed steps. Its model is the one before the bad step, or the one
    after the last completed dispatch:

    ```python
    try:
        result = fit(...)
    except (FloatingPointError, KeyboardInterrupt) as error:
        result = error.result
    ```
    """
    checks.flag("progress", progress)
    key = None if key is None else checks.key("key", key)
    if snapshot is not None:
        checks.function("snapshot", snapshot, "a function of the model")
    callbacks = _check_callbacks(callbacks)
    counts = _check_counts(steps, steps_per_dispatch, snapshot_every, average)
    history = History(*counts, snapshot)
    first, batches = peek(batches)
    mesh = mesh_for(batch_size(first, "batches"), device_list(devices))
    norms = checks.flag("gradient_norms", gradient_norms)
    run = _start(
        model, loss_fn, optimizer, filter_spec, mesh, key, history, average, monitor, outputs, norms
    )
    calls = Callbacks(callbacks)
    with _open(checkpoint, checkpoint_every, resume) as store:
        if store is not None:
            run.identify(first, optimizer)
            _restore(run, calls, store)
        sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
        at = run.state.done, history.steps, history.steps_per_dispatch
        stacked = stacked_batches(batches, *at, sharding)
        show = progress and _can_show()
        bar = tqdm(total=history.steps, initial=run.state.done, unit="step", disable=not show)
        try:
            with bar:
                if store is not None and store.loaded is not None:
                    _announce(bar, store.loaded)
                _train(run, stacked, bar, calls, store)
        except BaseException as error:
            with contextlib.suppress(AttributeError):
                error.result = _result(run)  # pyright: ignore[reportAttributeAccessIssue]
            failed = isinstance(error, FloatingPointError)
            if store is not None and run.state.done and not failed:
                _save(run, calls, store)
            raise
        finally:
            calls.close()
    return _result(run)


def _open(checkpoint, every, resume):
    """Context of the checkpoints, or of None without a folder."""
    checks.flag("resume", resume)
    checks.count_or_none("checkpoint_every", every)
    if checkpoint is None:
        if resume:
            raise ValueError("checkpoint must be a folder if resume=True, got None.")
        return contextlib.nullcontext()
    return contextlib.closing(Checkpoints(checks.path("checkpoint", checkpoint), every, resume))


def _restore(run, calls, store):
    """Continue from the newest checkpoint, if there is one."""
    found = store.load()
    if found is not None:
        run.restore(*found)
        calls.restore(found[0], run.models()[0])


def _announce(bar, path):
    """Print the step from which the run continues above the progress bar."""
    if not bar.disable:
        bar.write(f"resumed at step {bar.n} of {bar.total} from '{path}'", file=sys.stderr)


def _save(run, calls, store):
    """Write a checkpoint of the completed dispatches."""
    arrays, facts = run.pack()
    store.save(run.state.done, arrays | calls.pack(), facts)


def _start(
    model, loss_fn, optimizer, filter_spec, mesh, key, history, average, monitor, outputs, norms
):
    """Make the run, before its first step."""
    devices = list(mesh.devices)
    step = gradient_step(loss_fn, optimizer, filter_spec, devices)
    monitor = None if monitor is None else data_parallel(scalar("monitor", monitor), devices)
    outputs = None if outputs is None else with_key("outputs", outputs)
    trained = trained_part(model, filter_spec)
    arrays, static = eqx.partition((model, optimizer.init(trained)), eqx.is_array)
    sharding = NamedSharding(mesh, REPLICATED)
    arrays, trained = _place((arrays, trained), sharding)
    key = jax.device_put(key, sharding)

    def trained_parameters(arrays):
        model = eqx.combine(arrays, static)[0]
        return eqx.filter(model, resolved_filter(model, filter_spec))

    history.take_snapshot(model, 0)
    parameter_sum = None if average is None else jax.tree.map(jnp.zeros_like, trained)
    state, finite = State(arrays, parameter_sum, 0), _finite_leaves(trained)
    program = jax.jit(
        many_steps(step, monitor, static, trained_parameters, finite, history.first_averaged, norms)
    )
    return TrainingRun(program, static, state, key, history, outputs, trained_parameters, devices)


def _result(run):
    model, average = run.models()
    return FitResult(model, average, n_devices=run.n_devices, **run.history.result(run.state.done))


def _train(run, batches, bar, calls, store):
    calls.call(run.last_dispatch())  # a run may have been interrupted just before
    batch, count = (None, 0) if calls.stopped else next(batches, (None, 0))
    if batch is not None:
        bar.set_description("compiling")
        run.compile(batch)
        bar.set_description("training")
        bar.unpause()
    while batch is not None:
        launched = run.launch(batch, count)
        try:
            # Prepare the next batches while the devices are busy.
            following = next(batches, (None, 0))
        finally:
            run.finish(launched)
        bar.set_postfix_str(run.progress(), refresh=False)
        bar.update(count)
        progress = run.last_dispatch()
        calls.call(progress)
        if store is not None and store.is_due(progress.start, progress.step):
            _save(run, calls, store)
        batch, count = (None, 0) if calls.stopped else following
    run.end()
    if store is not None:
        _save(run, calls, store)


def _place(arrays, sharding):
    """Place the arrays on the devices, with the exact types that a step returns."""
    return jax.tree.map(lambda x: jax.device_put(jnp.asarray(x, dtype=x.dtype), sharding), arrays)


def _finite_leaves(trained):
    """Return, for each trained parameter, whether it is finite before the first step.

    Raise if one of them is NaN.
    """
    names = paths_of(trained, lambda x: np.isnan(x).any())
    if names:
        raise FloatingPointError(f"parameters are NaN before the first step: {listed(names)}.")
    return [bool(np.isfinite(np.asarray(x)).all()) for x in jax.tree.leaves(trained)]


def _can_show():
    """Return whether stderr is available for a progress bar."""
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def _check_callbacks(callbacks):
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise checks.value_error("callbacks", callbacks, "a sequence of functions")
    return callbacks


def _check_counts(steps, steps_per_dispatch, snapshot_every, average):
    steps = checks.count("steps", steps)
    steps_per_dispatch = checks.count("steps_per_dispatch", steps_per_dispatch)
    for name, value in (("snapshot_every", snapshot_every), ("average", average)):
        if value is not None:
            checks.count(name, value)
    if average is not None and average > steps:
        raise ValueError(f"average must be at most steps = {steps}, got {average}.")
    if snapshot_every is not None and snapshot_every % steps_per_dispatch:
        raise ValueError(
            f"snapshot_every must be a multiple of steps_per_dispatch = {steps_per_dispatch}, "
            f"got {snapshot_every}."
        )
    steps_per_dispatch = min(steps_per_dispatch, steps)
    return steps, steps_per_dispatch, snapshot_every or steps_per_dispatch, average
