"""Training by gradient steps: many steps to a dispatch, each spread over the local devices."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree
from tqdm import tqdm

from .cpu import compiler_options

LossFn = Callable[[Any, Any], Float[Array, ""]]
Step = Callable[[Any, PyTree, Any], tuple[Any, PyTree, Float[Array, ""]]]

# The last part of a run, whose speed is reported: there a network fires as it will once trained.
_END_OF_TRAINING = 0.2

# Entries from which on an array is averaged by itself: copying it would cost more.
_LARGE = 2**18

_AXIS = "batch"
_REPLICATED = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What [`fit`][] hands back."""

    model: Any
    """The trained model, on the first of the devices."""
    average: Any
    """The same with its trained parameters averaged over the models after each of the last
    `average` steps; `None` without `average`."""
    losses: np.ndarray
    """The loss of each step's batch before that step, of shape `(steps,)`."""
    monitored: np.ndarray | None
    """What `monitor` gave there, of shape `(steps,)`; `None` without `monitor`."""
    snapshots: PyTree
    """What `snapshot(model)` gave, stacked along a new first axis; `None` without `snapshot`."""
    snapshot_steps: np.ndarray
    """After how many steps each snapshot was taken."""
    compile_seconds: float
    """Tracing and compiling, before the first step."""
    steps_per_second: float
    """Steps a second at the end of training: the median dispatch of the last fifth of the run."""
    n_devices: int
    """How many devices shared each batch."""


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    filter_spec: PyTree = eqx.is_inexact_array,
    devices: Sequence[jax.Device] | None = None,
) -> Step:
    """One gradient step, as a function for `jax.jit` (or `eqx.filter_jit`) and loops.

    With several devices the batch is cut along its first axis and each device runs its part on
    its own, event loop included; only loss and gradients are averaged between them. So the loss
    must be a *mean* over the batch for the step to be the one a single device would take.

    **Arguments:**

    - `loss_fn`: `loss_fn(model, batch) -> scalar`, a mean over the batch.
    - `optimizer`: any Optax optimiser, whose state is
        `optimizer.init(eqx.filter(model, filter_spec))`.
    - `filter_spec`: what trains, as for `equinox.partition`: a pytree of booleans or a function
        of a leaf. Default: every floating-point array.
    - `devices`: the devices that share a batch. Default: as many of the local devices as divide
        the batch evenly.

    **Returns:** `step(model, opt_state, batch) -> (model, opt_state, loss)`, where every array in
    `batch` has the batch as its first axis.

    A loop of one's own over several CPU devices should wait for a result now and then
    (`jax.block_until_ready(loss)`, or simply print the loss): XLA's CPU collectives can stall
    when dozens of programs are queued. [`fit`][] does.
    """

    def local(model, batch):
        trained, fixed = eqx.partition(model, filter_spec)
        return jax.value_and_grad(lambda trained: loss_fn(eqx.combine(trained, fixed), batch))(
            trained
        )

    value_and_grad = _data_parallel(local, devices)

    def step(model, opt_state, batch):
        loss, grads = value_and_grad(model, batch)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, filter_spec))
        return eqx.apply_updates(model, updates), opt_state, loss

    return step


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
    progress: bool = True,
) -> FitResult:
    """Trains `model` for `steps` batches and shows loss and speed on the way.

    `chunk` steps run in one dispatch, so that a small model is not held up by Python between its
    steps. The model handed in is left as it is.

    **Arguments:**

    - `batches`: yields at least `steps` batches of the same shapes, in host or device memory; only
        `steps` are taken.
    - `loss_fn`, `optimizer`, `filter_spec`, `devices`: as for [`make_step`][].
    - `chunk`: steps a dispatch.
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
    - `progress`: show a progress bar on stderr.

    **Raises:** `FloatingPointError` at the first step whose loss is not finite, `ValueError` for
    an argument that does not fit or when `batches` ends early.
    """
    chunk, snapshot_every = _check_counts(steps, chunk, snapshot_every, average)
    first, batches = _peek(batches)
    mesh = _mesh(_batch_size(first), devices)
    state = (model, optimizer.init(eqx.filter(model, filter_spec)))
    arrays, static = eqx.partition(state, eqx.is_array)
    arrays = _own(arrays, NamedSharding(mesh, _REPLICATED))
    trained = eqx.filter(arrays[0], filter_spec)
    total = None if average is None else jax.tree.map(jnp.zeros_like, trained)
    first_averaged = steps - (average or 0)
    step = make_step(loss_fn, optimizer, filter_spec=filter_spec, devices=list(mesh.devices))
    feed = _feed(batches, steps, chunk, NamedSharding(mesh, PartitionSpec(None, _AXIS)))
    watch = None if monitor is None else _data_parallel(monitor, list(mesh.devices))
    record = _Record(steps, snapshot, snapshot_every)
    record.look(model)

    with tqdm(total=steps, unit="step", desc="compiling", disable=not progress) as bar:
        batch, count = next(feed)
        start = time.perf_counter()
        run = _many_steps(step, watch, static, filter_spec)
        run = run.lower(arrays, total, batch, count, first_averaged)
        run = run.compile(compiler_options=compiler_options())
        record.compile_seconds = time.perf_counter() - start
        bar.set_description("training")
        bar.unpause()
        while batch is not None:
            start = time.perf_counter()
            skip = first_averaged - record.done
            arrays, total, losses, watched = run(arrays, total, batch, count, skip)
            # The devices are at work now: the time to lay out what comes next.
            now, (batch, count) = count, next(feed, (None, 0))
            record.add(np.asarray(losses)[:now], time.perf_counter() - start)
            if watched is not None:
                record.monitored.append(np.asarray(watched)[:now])
            record.look(eqx.combine(arrays, static)[0])
            bar.set_postfix_str(f"loss {record.losses[-1][-1]:.3g}", refresh=False)
            bar.update(now)

    arrays, total = jax.device_put((arrays, total), mesh.devices[0])
    model = eqx.combine(arrays, static)[0]
    mean = None
    if average is not None:
        mean = eqx.combine(jax.tree.map(lambda x: x / average, total), model)
    return record.result(model, mean, mesh.size)


class _Record:
    """What a run leaves behind, as it grows."""

    def __init__(self, steps, snapshot, snapshot_every):
        self.compile_seconds = 0.0
        self.losses = []
        self.monitored = []
        self._rates = []
        self._snapshots = []
        self._snapshot_steps = []
        self.done = 0
        self._steps = steps
        self._snapshot = snapshot
        self._every = snapshot_every

    def add(self, losses, seconds):
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            raise FloatingPointError(
                f"the loss became {losses[bad[0]]} at step {self.done + bad[0] + 1} of "
                f"{self._steps}; lower the learning rate, or look at the model and the data there."
            )
        self.losses.append(losses)
        self._rates.append(len(losses) / seconds)
        self.done += len(losses)

    def look(self, model):
        due = self.done % self._every == 0 or self.done == self._steps
        if self._snapshot is not None and due:
            self._snapshots.append(jax.device_get(self._snapshot(model)))
            self._snapshot_steps.append(self.done)

    def result(self, model, average, n_devices):
        end = self._rates[-max(1, round(_END_OF_TRAINING * len(self._rates))) :]
        return FitResult(
            model=model,
            average=average,
            losses=np.concatenate(self.losses),
            monitored=np.concatenate(self.monitored) if self.monitored else None,
            snapshots=_stack(self._snapshots) if self._snapshots else None,
            snapshot_steps=np.asarray(self._snapshot_steps),
            compile_seconds=self.compile_seconds,
            steps_per_second=float(np.median(end)),
            n_devices=n_devices,
        )


def _data_parallel(fn, devices):
    """`(model, batch) -> fn(model, batch)`, averaged over the parts of the batch."""

    def shared(model, batch):
        mesh = _mesh(_batch_size(batch), devices)
        if mesh.size == 1:
            return fn(model, batch)
        arrays, static = eqx.partition(model, eqx.is_array)

        def part(arrays, batch):
            return _mean_over_devices(fn(eqx.combine(arrays, static), batch))

        # check_vma=False: the gradients stay those of each part until the one average above, and
        # the event loops inside need not say which of their values differ between devices.
        specs = (_REPLICATED, PartitionSpec(_AXIS))
        return jax.shard_map(
            part, mesh=mesh, in_specs=specs, out_specs=_REPLICATED, check_vma=False
        )(arrays, batch)

    return shared


def _mean_over_devices(tree):
    """`pmean` of all leaves. Small ones travel in one message, since each message has its price:
    on 4 host devices and a small network, nine of them cost as much as the step."""
    leaves, structure = jax.tree.flatten(tree)
    messages: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        alone = leaf.size > _LARGE
        messages.setdefault(i if alone else leaf.dtype, []).append(i)
    for together in messages.values():
        ends = np.cumsum([leaves[i].size for i in together])[:-1].tolist()
        message = jnp.concatenate([leaves[i].reshape(-1) for i in together])
        parts = jnp.split(jax.lax.pmean(message, _AXIS), ends)
        for i, part in zip(together, parts, strict=True):
            leaves[i] = part.reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, leaves)


def _many_steps(step, watch, static, filter_spec):
    """`count` steps over stacked batches in one program, and the sum of the trained parameters
    after each step but the first `skip`.

    It stops early where a loss is not finite, so that no work goes into NaNs. `count` is an
    argument, so that the last, shorter chunk needs no program of its own.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def run(arrays, total, batches, count, skip):
        def unfinished(carry):
            i, _, _, losses, _ = carry
            return (i < count) & jnp.all(jnp.isfinite(losses))

        def one(carry):
            i, arrays, total, losses, watched = carry
            batch = jax.tree.map(lambda x: x[i], batches)
            model, opt_state = eqx.combine(arrays, static)
            if watched is not None:
                watched = watched.at[i].set(watch(model, batch).astype(watched.dtype))
            model, opt_state, loss = step(model, opt_state, batch)
            arrays = eqx.filter((model, opt_state), eqx.is_array)
            if total is not None:
                trained = eqx.filter(model, filter_spec)
                total = jax.tree.map(lambda t, x: jnp.where(i >= skip, t + x, t), total, trained)
            losses = losses.at[i].set(loss.astype(losses.dtype))
            return i + 1, arrays, total, losses, watched

        nothing = jnp.zeros(_batch_size(batches))
        watched = None if watch is None else nothing
        start = jnp.int32(0), arrays, total, nothing, watched
        return jax.lax.while_loop(unfinished, one, start)[1:]

    return run


def _feed(batches, steps, chunk, sharding) -> Iterator[tuple[Any, int]]:
    """Yields `chunk` batches at a time, stacked and placed, with how many of them are to be run."""
    for done in range(0, steps, chunk):
        count = min(chunk, steps - done)
        taken = list(itertools.islice(batches, count))
        if len(taken) < count:
            raise ValueError(f"batches ended after {done + len(taken)} of {steps} steps.")
        # The padding is never run: it keeps the shape, hence the compiled program.
        taken += taken[-1:] * (chunk - count)
        yield jax.device_put(_stack(taken), sharding), count


def _stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _peek(batches):
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches is empty; fit needs one batch a step.")
    return first, itertools.chain([first], batches)


def _own(arrays, sharding):
    """Copies on the devices, free to be overwritten, of the exact types that a step returns."""
    return jax.tree.map(
        lambda x: jax.device_put(jnp.array(x, dtype=x.dtype, copy=True), sharding), arrays
    )


def _batch_size(batch):
    leaves = jax.tree.leaves(batch)
    sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            "every array of a batch must have the batch as its first axis, got shapes "
            f"{[jnp.shape(leaf) for leaf in leaves]}."
        )
    return sizes.pop()[0]


def _mesh(batch_size, devices):
    if devices is None:
        devices = jax.local_devices()
        share = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
        devices = devices[:share]
    elif batch_size % len(devices):
        raise ValueError(f"{len(devices)} devices cannot share a batch of {batch_size} evenly.")
    return Mesh(np.array(devices), (_AXIS,))


def _check_counts(steps, chunk, snapshot_every, average):
    counts = {
        "steps": steps,
        "chunk": chunk,
        "snapshot_every": snapshot_every,
        "average": average,
    }
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if average is not None and average > steps:
        raise ValueError(f"average must be at most steps = {steps}, got {average}.")
    if snapshot_every is not None and snapshot_every % chunk:
        raise ValueError(
            f"snapshot_every must be a multiple of chunk, got {snapshot_every} with chunk={chunk}."
        )
    return min(chunk, steps), snapshot_every or chunk
