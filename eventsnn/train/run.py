"""Execution of a training run: dispatches, and errors and warnings for the steps that fail."""

import functools
import time
import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..cpu import compiler_options
from . import fingerprints
from .callbacks import Progress
from .checkpoints import packed, require_equal, signature, unpacked
from .diagnosis import make_diagnosis
from .dispatch import Records, State, step_key
from .evidence import (
    event_evidence,
    evidence_of,
    flat_readouts,
    has_network,
    no_evidence,
    output_gradients,
)
from .history import ZeroGradients
from .wording import outputs_named


class Dispatch(NamedTuple):
    """Dispatch that has been launched and not yet finished."""

    batch: Any
    arrays: PyTree
    parameter_sum: PyTree
    records: Records
    start: float


class TrainingRun:
    """Training run, with the state after its completed dispatches.

    A dispatch never overwrites its input arrays. An interrupted run therefore still has a model to
    return. After a bad step, the same program can repeat the steps before it.
    """

    def __init__(self, program, static, state, key, history, outputs, trained_parameters, devices):
        self.history = history
        self.state = state
        self._program = program
        self._static = static
        self._key = key
        self._outputs = outputs
        self._trained_parameters = trained_parameters
        self._devices = devices
        self._has_gradient = np.ones(0, bool)
        self._last_start = 0
        self._fingerprints = {}
        n_outputs = len(output_gradients(trained_parameters(state.arrays)))
        self._zero_gradients = ZeroGradients(history.steps, n_outputs)

    def compile(self, batch):
        """Compile the program for stacked batches of this shape."""
        start = time.perf_counter()
        program = self._program.lower(*self._arguments(self.state, batch, 1))
        self._program = program.compile(compiler_options=compiler_options())
        self.history.compile_seconds = time.perf_counter() - start

    def launch(self, batch, count):
        """Start the next `count` steps, without waiting for them."""
        start = time.perf_counter()
        arrays, parameter_sum, records = self._after(self.state, batch, count)
        return Dispatch(batch, arrays, parameter_sum, records, start)

    def finish(self, dispatch):
        """Wait for a dispatch and accept its state. Raise or warn if a step went wrong."""
        records = jax.tree.map(np.asarray, dispatch.records)
        if not records.finite:
            self._stop(dispatch, records)
        before = self.state
        self._has_gradient = records.outputs_with_gradient[int(records.n_steps) - 1]
        self._accept(dispatch.arrays, dispatch.parameter_sum, records, dispatch.start)
        self._warn_of_zeros(before, dispatch.batch, records)
        self._warn_of_outputs(before, dispatch.batch, records)

    def last_dispatch(self):
        """Progress of the last dispatch, for the callbacks."""
        start, done = self._last_start, self.state.done
        values = self.history.of_steps(start, done)
        model = functools.cache(lambda: self.models()[0])
        return Progress(start, done, self.history.steps, **values, _model=model)

    def pack(self):
        """Arrays of the state of the run after its completed dispatches, and facts about it."""
        state = self.state
        arrays = packed("state", state[:2]) | self.history.pack(state.done)
        facts = {"done": state.done, "start": self._last_start, **self.settings()}
        return arrays | self._zero_gradients.pack(), facts

    def identify(self, first, optimizer):
        """Set the fingerprints of the first batch and of the optimiser, for the checkpoints."""
        trained = self._trained_parameters(self.state.arrays)
        self._fingerprints = {
            "batches": fingerprints.of_batch(first),
            "versions": fingerprints.versions(),
            "optimizer": fingerprints.of_optimizer(optimizer, trained),
        }

    def restore(self, arrays, facts):
        """Continue from the state of a checkpoint of a run with the same settings."""
        settings = self.settings()
        if facts.get("versions") != settings.pop("versions"):
            del settings["optimizer"]  # its fingerprint is that of other versions
        require_equal(facts, settings)
        self.state = State(*unpacked("state", arrays, self.state[:2]), int(facts["done"]))
        self._last_start = int(facts["start"])
        self.history.restore(arrays)
        self._zero_gradients.restore(arrays)

    def settings(self):
        """Settings that must be the same when the run is resumed, by the name of the argument."""
        key = None if self._key is None else jax.random.key_data(self._key).tolist()
        history = self.history
        return {
            "steps": history.steps,
            "steps_per_dispatch": history.steps_per_dispatch,
            "average": history.steps - history.first_averaged or None,
            "key": key,
            "arrays": signature(self.state[:2]),
            **self._fingerprints,
        }

    def progress(self):
        """Loss of the last step, and the share of the event outputs without a gradient in it."""
        text = f"loss {self.history.last_loss():.3g}"
        has_gradient = self._has_gradient
        if not has_gradient.all():
            text += f", {np.mean(~has_gradient):.0%} of the outputs without gradient"
        return text

    @property
    def n_devices(self):
        """Number of devices that share each batch."""
        return len(self._devices)

    def models(self):
        """Return the model and its average, or None without average, on the first device."""
        arrays, parameter_sum = jax.device_put(self.state[:2], self._devices[0])
        model, averaged = self._model(arrays), self.state.done - self.history.first_averaged
        if parameter_sum is None or averaged <= 0:
            return model, None
        return model, eqx.combine(jax.tree.map(lambda x: x / averaged, parameter_sum), model)

    def end(self):
        """Take the last snapshot, also if the run was stopped early."""
        self.history.take_snapshot(self._model(self.state.arrays), self.state.done, last=True)

    def _model(self, arrays):
        return eqx.combine(arrays, self._static)[0]

    def _arguments(self, state, batch, count):
        done, count = np.int32(state.done), np.int32(count)
        return state.arrays, state.parameter_sum, batch, self._key, done, count

    def _after(self, state, batch, count):
        return self._program(*self._arguments(state, batch, count))

    def _accept(self, arrays, parameter_sum, records, start):
        self.history.add(records, time.perf_counter() - start)
        self._last_start = self.state.done
        self.state = State(arrays, parameter_sum, self.state.done + int(records.n_steps))
        self.history.take_snapshot(self._model(arrays), self.state.done)

    def _stop(self, dispatch, records):
        """Accept the steps before the first bad step, and raise an error for that step."""
        batch, done, bad = dispatch.batch, 0, int(records.n_steps)
        while bad - done > 1:
            middle = (done + bad) // 2
            finite = bool(self._after(self.state, batch, middle)[2].finite)
            done, bad = (middle, bad) if finite else (done, middle)
        after, _, records = self._after(self.state, batch, bad)
        if done:
            arrays, parameter_sum, accepted = self._after(self.state, batch, done)
            accepted = jax.tree.map(np.asarray, accepted)
            self._accept(arrays, parameter_sum, accepted, dispatch.start)
        loss, where = float(records.losses[done]), self._where(self.state.done + 1)
        failed = None
        if np.isfinite(loss):
            trained = map(self._trained_parameters, (after, self.state.arrays))
            failed = jax.tree.map(_without_initial_infinities, *trained)
            where += f" (its loss is {loss:.6g})"
        evidence, batch = self._evidence(self.state, batch, done)
        self._diagnose(loss, failed, None, evidence, batch).report(where)
        # On a device whose rounding differs from run to run, the repeated step may be good.
        raise FloatingPointError(f"the loss or the parameters are not finite {where}.")

    def _warn_of_zeros(self, before, batch, records):
        row = self._zero_gradients.first_row(records)
        if row is not None:
            arrays, parameter_sum, _ = self._after(before, batch, row)
            state = State(arrays, parameter_sum, before.done + row)
            evidence, sample = self._evidence(state, batch, row)
            found = self._diagnose(records.losses[row], None, np.zeros(1), evidence, sample)
            self._zero_gradients.mark_reported(evidence)
            _warn(found.message(self._where(state.done + 1)))

    def _warn_of_outputs(self, before, batch, records):
        outputs, since = self._zero_gradients.outputs(records, before.done)
        if outputs.size:
            evidence, sample = self._evidence(self.state, batch, int(records.n_steps) - 1)
            if evidence is not None and evidence.always_silent(outputs):
                found = self._diagnose(None, None, None, evidence, sample)
                names = outputs_named(outputs)
                _warn(f"no gradient for {names} since step {since + 1}: {found.message()}")
            elif len(outputs) == len(self._has_gradient):  # for example of a readout
                message = self._diagnose(None, None, None, evidence, sample).message()
                message = message or "all neurons of a layer may be silent."
                hint = "Call eventsnn.activity(model, in_times) to see which layers are silent."
                _warn(f"no gradient for any output since step {since + 1}: {message} {hint}")
            elif (flat := self._flat(outputs, sample)).size:
                names, reason = outputs_named(flat), "the potential exceeds its initial value in no"
                advice = "Try positive weights of the readouts or integrals instead of maxima."
                reason += " sample of the batch, so that its maximum is constant"
                _warn(f"no gradient for {names} since step {since + 1}: {reason}. {advice}")

    def _flat(self, outputs, batch):
        """Return those of the outputs that are readouts with a constant maximum in the batch."""
        flat = flat_readouts(self._model(self.state.arrays), batch)
        return np.intersect1d(outputs, np.flatnonzero(flat))

    def _diagnose(self, *findings):
        has_networks = has_network(self._model(self.state.arrays))
        return make_diagnosis(*findings, has_networks=has_networks)

    def _where(self, step):
        return f"at step {step} of {self.history.steps}"

    def _evidence(self, state, batch, row):
        """Return the evidence of the outputs, and the batch, of one step of a dispatch."""
        batch = jax.device_get(jax.tree.map(lambda x: x[row], batch))
        arrays, key = jax.device_put((state.arrays, self._key), self._devices[0])
        model, key = self._model(arrays), step_key(key, state.done)
        try:
            if self._outputs is None:
                return event_evidence(model, batch), batch
            return evidence_of(eqx.filter_jit(self._outputs)(model, batch, key)), batch
        except Exception as error:  # must not hide the error being reported
            return no_evidence(error), batch


def _without_initial_infinities(after, before):
    """Parameters after a step, with 0 for entries that were infinite before and are not NaN now."""
    return jnp.where(jnp.isinf(before) & ~jnp.isnan(after), 0.0, after)


def _warn(message):
    # Stack level of the caller of `fit`: above _warn, _warn_of_*, finish, _train and fit.
    warnings.warn(message, stacklevel=6)
