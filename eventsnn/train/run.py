"""Execution of a training run: dispatches of many steps, their records, and error reports."""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..cpu import compiler_options
from . import diagnosis
from .batches import stack
from .step import batch_size

# Fraction of the run, at its end, whose speed is reported. Firing rates change during training.
_END_OF_TRAINING = 0.2

# Approximate number of entries per array that are checked first for a non-zero value.
_SAMPLE = 16

# Number of steps without a gradient after which an output is checked.
_PATIENCE = 20


class State(NamedTuple):
    """State of a run after `done` steps."""

    arrays: PyTree
    """Arrays of the model and of the optimiser state."""
    total: PyTree
    """Sum of the trained parameters over the steps to be averaged, or None without average."""
    done: int


class Seen(NamedTuple):
    """Records of one dispatch, one row per step. The first `ran` rows are valid."""

    losses: Float[Array, " steps"]
    watched: Float[Array, " steps"] | None
    still: Bool[Array, " steps"]
    """True if all gradients are 0."""
    moved: Bool[Array, "steps outputs"]
    """True for each output of an event network with a gradient. No columns without a network."""
    ran: Int[Array, ""]
    good: Bool[Array, ""]
    """True if all losses, and the parameters after the last step, are finite."""


class Launched(NamedTuple):
    """Dispatch that has been launched and not yet finished."""

    batch: Any
    arrays: PyTree
    total: PyTree
    seen: Seen
    start: float


def many_steps(
    step: Callable, watch: Callable | None, static: PyTree, trained_of: Callable, finite: list[bool]
) -> Callable:
    """Make a function that runs `count` steps over stacked batches in one program.

    The function also adds the trained parameters to a sum after each step except the first `skip`
    steps. It stops after a step whose loss is not finite. The parameters are checked only after the
    last step, since reading them at each step takes up to a tenth of the time of a step. A
    parameter whose entry in `finite` is false may be infinite, but not NaN. `count` is a traced
    argument, so that the shorter last dispatch uses the same program.
    """

    def run(arrays, total, batches, count, skip):
        def unfinished(carry):
            seen = carry[-1]
            return (seen.ran < count) & seen.good

        def one(carry):
            arrays, total, seen = carry
            i = seen.ran
            batch = jax.tree.map(lambda x: x[i], batches)
            model, opt_state = eqx.combine(arrays, static)
            watched = seen.watched
            if watch is not None:
                watched = watched.at[i].set(watch(model, batch).astype(watched.dtype))
            model, opt_state, loss, grads = step(model, opt_state, batch)
            arrays = eqx.filter((model, opt_state), eqx.is_array)
            if total is not None:
                trained = trained_of(arrays)
                total = jax.tree.map(lambda t, x: jnp.where(i >= skip, t + x, t), total, trained)
            moved = seen.moved.at[i].set(diagnosis.output_gradients(grads))
            losses = seen.losses.at[i].set(loss.astype(seen.losses.dtype))
            still = seen.still.at[i].set(~_any_nonzero(grads))
            return arrays, total, Seen(losses, watched, still, moved, i + 1, jnp.isfinite(loss))

        start = _nothing_seen(batch_size(batches), watch, trained_of(arrays))
        arrays, total, seen = jax.lax.while_loop(unfinished, one, (arrays, total, start))
        good = seen.good & _all_finite(trained_of(arrays), finite)
        return arrays, total, seen._replace(good=good)

    return run


def _nothing_seen(steps_per_dispatch, watch, trained):
    zeros, no = jnp.zeros(steps_per_dispatch), jnp.zeros(steps_per_dispatch, bool)
    watched = None if watch is None else zeros
    moved = jnp.zeros((steps_per_dispatch, *diagnosis.output_gradients(trained).shape), bool)
    return Seen(zeros, watched, no, moved, jnp.int32(0), jnp.asarray(True))


def _all_finite(trained, finite):
    good = jnp.asarray(True)
    for x, was_finite in zip(jax.tree.leaves(trained), finite, strict=True):
        top = jnp.max(jnp.abs(x), initial=0.0)  # NaN if one entry is NaN
        good &= jnp.isfinite(top) if was_finite else ~jnp.isnan(top)
    return good


def _any_nonzero(tree):
    """Return whether any entry is not 0.

    A cheap check of a few entries comes first, and is usually sufficient.
    """
    leaves = [x.reshape(-1) for x in jax.tree.leaves(tree)]
    some = jnp.concatenate([x[:: max(1, x.size // _SAMPLE)] != 0 for x in leaves])

    def look(leaves):
        return jnp.any(jnp.stack([jnp.any(x != 0) for x in leaves]))

    return jax.lax.cond(jnp.any(some), lambda _: jnp.asarray(True), look, leaves)


class Record:
    """Recorder of the losses, speeds and snapshots of a run."""

    def __init__(self, steps, steps_per_dispatch, snapshot_every, average, snapshot):
        self.steps = steps
        self.steps_per_dispatch = steps_per_dispatch
        self.first_averaged = steps - (average or 0)
        self.compile_seconds = 0.0
        self._losses = []
        self._monitored = []
        self._rates = []
        self._snapshots = []
        self._snapshot_steps = []
        self._snapshot = snapshot
        self._every = snapshot_every

    def add(self, seen, seconds):
        count = int(seen.ran)
        self._losses.append(seen.losses[:count])
        if seen.watched is not None:
            self._monitored.append(seen.watched[:count])
        self._rates.append(count / seconds)

    def look(self, model, done):
        due = done % self._every == 0 or done == self.steps
        if self._snapshot is not None and due:
            self._snapshots.append(jax.device_get(self._snapshot(model)))
            self._snapshot_steps.append(done)

    def last_loss(self):
        return self._losses[-1][-1]

    def result(self, done):
        """Return the fields of a `FitResult` of `done` steps, by name."""
        end = self._rates[-max(1, round(_END_OF_TRAINING * len(self._rates))) :]
        monitored = np.concatenate(self._monitored)[:done] if self._monitored else None
        return {
            "losses": np.concatenate(self._losses or [np.zeros(0)])[:done],
            "monitored": monitored,
            "snapshots": stack(self._snapshots) if self._snapshots else None,
            "snapshot_steps": np.asarray(self._snapshot_steps),
            "compile_seconds": self.compile_seconds,
            "steps_per_second": float(np.median(end)) if end else 0.0,
        }


class Run:
    """Training run, with the state after its completed dispatches.

    A dispatch never overwrites its input arrays. An interrupted run therefore still has a model to
    return. After a bad step, the same program can repeat the steps before it.
    """

    def __init__(self, program, static, state, record, outputs, trained_of, devices):
        self.record = record
        self.state = state
        self._program = program
        self._static = static
        self._outputs = outputs
        self._trained_of = trained_of
        self._devices = devices
        n_outputs = len(diagnosis.output_gradients(trained_of(state.arrays)))
        self._still = Still(record.steps, n_outputs)

    def compile(self, batch):
        start = time.perf_counter()
        arrays, total, _ = self.state
        program = self._program.lower(arrays, total, batch, np.int32(1), np.int32(0))
        self._program = program.compile(compiler_options=compiler_options())
        self.record.compile_seconds = time.perf_counter() - start

    def launch(self, batch, count):
        start = time.perf_counter()
        arrays, total, seen = self._after(self.state, batch, count)
        return Launched(batch, arrays, total, seen, start)

    def finish(self, launched):
        """Wait for a dispatch and accept its state. Raise or warn if a step went wrong."""
        seen = jax.tree.map(np.asarray, launched.seen)
        if not seen.good:
            self._stop(launched, seen)
        before = self.state
        self._accept(launched.arrays, launched.total, seen, launched.start)
        self._warn_of_zeros(before, launched.batch, seen)
        self._warn_of_outputs(before, launched.batch, seen)

    @property
    def n_devices(self):
        return len(self._devices)

    def models(self):
        """Return the model and its average, or None without average, on the first device."""
        arrays, total = jax.device_put(self.state[:2], self._devices[0])
        model, averaged = self._model(arrays), self.state.done - self.record.first_averaged
        if total is None or averaged <= 0:
            return model, None
        return model, eqx.combine(jax.tree.map(lambda x: x / averaged, total), model)

    def _model(self, arrays):
        return eqx.combine(arrays, self._static)[0]

    def _after(self, state, batch, count):
        skip = min(max(self.record.first_averaged - state.done, 0), count)
        return self._program(state.arrays, state.total, batch, np.int32(count), np.int32(skip))

    def _accept(self, arrays, total, seen, start):
        self.record.add(seen, time.perf_counter() - start)
        self.state = State(arrays, total, self.state.done + int(seen.ran))
        self.record.look(self._model(arrays), self.state.done)

    def _stop(self, launched, seen):
        """Accept the steps before the first bad step, and raise an error for that step."""
        batch, done, bad = launched.batch, 0, int(seen.ran)
        while bad - done > 1:
            middle = (done + bad) // 2
            good = bool(self._after(self.state, batch, middle)[2].good)
            done, bad = (middle, bad) if good else (done, middle)
        after, _, seen = self._after(self.state, batch, bad)
        if done:
            arrays, total, good = self._after(self.state, batch, done)
            self._accept(arrays, total, jax.tree.map(np.asarray, good), launched.start)
        loss, where = float(seen.losses[done]), self._where(self.state.done + 1)
        failed = None
        if np.isfinite(loss):
            failed = jax.tree.map(
                _new, self._trained_of(after), self._trained_of(self.state.arrays)
            )
            where += f" (its loss is {loss:.6g})"
        evidence, batch = self._evidence(self.state, batch, done)
        self._weigh(loss, failed, None, evidence, batch).report(where)
        # On a device whose rounding differs from run to run, the repeated step may be good.
        raise FloatingPointError(f"the loss or the parameters are not finite {where}.")

    def _warn_of_zeros(self, before, batch, seen):
        row = self._still.row_of_zeros(seen)
        if row is not None:
            arrays, total, _ = self._after(before, batch, row)
            state = State(arrays, total, before.done + row)
            evidence, taken = self._evidence(state, batch, row)
            found = self._weigh(seen.losses[row], None, np.zeros(1), evidence, taken)
            self._still.tell(evidence)
            _warn(found.message(self._where(before.done + row + 1)))

    def _warn_of_outputs(self, before, batch, seen):
        outputs, since = self._still.outputs(seen, before.done)
        if outputs.size:
            evidence, taken = self._evidence(self.state, batch, int(seen.ran) - 1)
            if evidence is not None and evidence.always_silent(outputs):
                found = self._weigh(None, None, None, evidence, taken)
                names = diagnosis.outputs_named(outputs)
                _warn(f"no gradient for {names} since step {since + 1}: {found.message()}")

    def _weigh(self, *findings):
        networks = diagnosis.has_network(self._model(self.state.arrays))
        return diagnosis.weigh(*findings, networks=networks)

    def _where(self, step):
        return f"at step {step} of {self.record.steps}"

    def _evidence(self, state, batch, row):
        """Return the evidence of the outputs, and the batch, of one step of a dispatch."""
        batch = jax.device_get(jax.tree.map(lambda x: x[row], batch))
        model = self._model(jax.device_put(state.arrays, self._devices[0]))
        try:
            if self._outputs is None:
                return diagnosis.event_evidence(model, batch), batch
            return diagnosis.evidence_of(eqx.filter_jit(self._outputs)(model, batch)), batch
        except Exception as error:  # must not hide the error being reported
            return diagnosis.no_evidence(error), batch


class Still:
    """Tracker of gradients that are exactly 0. Each finding is reported once."""

    def __init__(self, steps, n_outputs):
        self._patience = min(_PATIENCE, steps)
        self._zeros_told = False
        self._told = np.zeros(n_outputs, bool)
        self._moved_at = np.zeros(n_outputs, int)

    def row_of_zeros(self, seen):
        """Row of the first step of a dispatch at which all gradients are 0 and the loss is not.

        None without such a step, or if one has been reported before.
        """
        rows = np.flatnonzero(seen.still & (seen.losses != 0))
        if self._zeros_told or not rows.size:
            return None
        self._zeros_told = True
        return int(rows[0])

    def outputs(self, seen, done):
        """Return the outputs without a recent gradient, and the last step with a gradient."""
        moved = seen.moved[: int(seen.ran)]
        end = done + len(moved)
        last = end - np.argmax(moved[::-1], axis=0)
        self._moved_at = np.where(moved.any(axis=0), last, self._moved_at)
        new = (end - self._moved_at >= self._patience) & ~self._told
        self._told |= new
        return np.flatnonzero(new), self._moved_at[new].max(initial=0)

    def tell(self, evidence):
        """Mark the outputs that another warning has reported as silent."""
        if evidence is not None and evidence.silent.shape[1:] == self._told.shape:
            self._told |= evidence.silent.all(axis=0)


def _new(after, before):
    """Parameters after a step, with 0 for entries that were infinite before and are not NaN now."""
    return jnp.where(jnp.isinf(before) & ~jnp.isnan(after), 0.0, after)


def _warn(message):
    # Stack level of the caller of `fit`: above _warn, _warn_of_*, finish, _train and fit.
    warnings.warn(message, stacklevel=6)
