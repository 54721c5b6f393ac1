"""Records of a training run: losses, speeds, snapshots, and outputs without a gradient."""

import jax
import numpy as np

from .batches import stack

# Fraction of the run, at its end, whose speed is reported. Firing rates, and with them the speed,
# change during training.
_END_OF_TRAINING = 0.2

# Number of steps without a gradient after which an output is checked.
_PATIENCE = 20


class History:
    """Losses, speeds and snapshots of a run."""

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

    def add(self, records, seconds):
        """Add the records of a dispatch that took `seconds`."""
        count = int(records.n_steps)
        self._losses.append(records.losses[:count])
        if records.monitored is not None:
            self._monitored.append(records.monitored[:count])
        self._rates.append(count / seconds)

    def take_snapshot(self, model, done):
        """Take a snapshot if one is due after `done` steps."""
        due = done % self._every == 0 or done == self.steps
        if self._snapshot is not None and due:
            self._snapshots.append(jax.device_get(self._snapshot(model)))
            self._snapshot_steps.append(done)

    def last_loss(self):
        """Return the loss of the last step."""
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


class ZeroGradients:
    """Record of gradients that are exactly 0. Each finding is reported once."""

    def __init__(self, steps, n_outputs):
        self._patience = min(_PATIENCE, steps)
        self._zeros_reported = False
        self._reported = np.zeros(n_outputs, bool)
        self._last_gradient = np.zeros(n_outputs, int)

    def first_row(self, records):
        """Row of the first step of a dispatch at which all gradients are 0 and the loss is not.

        None without such a step, or if one has been reported before.
        """
        rows = np.flatnonzero(records.zero_gradients & (records.losses != 0))
        if self._zeros_reported or not rows.size:
            return None
        self._zeros_reported = True
        return int(rows[0])

    def outputs(self, records, done):
        """Return the outputs without a recent gradient, and the last step with a gradient."""
        changed = records.outputs_with_gradient[: int(records.n_steps)]
        end = done + len(changed)
        last = end - np.argmax(changed[::-1], axis=0)
        self._last_gradient = np.where(changed.any(axis=0), last, self._last_gradient)
        new = (end - self._last_gradient >= self._patience) & ~self._reported
        self._reported |= new
        return np.flatnonzero(new), self._last_gradient[new].max(initial=0)

    def mark_reported(self, evidence):
        """Mark the outputs that another warning has reported as silent."""
        if evidence is not None and evidence.silent.shape[1:] == self._reported.shape:
            self._reported |= evidence.silent.all(axis=0)
