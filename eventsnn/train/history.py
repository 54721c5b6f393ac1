"""Records of a training run: losses, speeds, snapshots, and outputs without a gradient."""

from collections.abc import Mapping

import jax
import numpy as np

from .batches import stack

# Fraction of the run, at its end, whose speed is reported. Firing rates, and with them the speed,
# change during training.
_END_OF_TRAINING = 0.2

# Values that are recorded at each step, if the run has them.
_PER_STEP = ("losses", "monitored", "gradient_norms", "learning_rates")

# Number of steps without a gradient after which an output is checked.
_PATIENCE = 20


class History:
    """Losses, speeds and snapshots of a run."""

    def __init__(self, steps, steps_per_dispatch, snapshot_every, average, snapshot):
        self.steps = steps
        self.steps_per_dispatch = steps_per_dispatch
        self.first_averaged = steps - (average or 0)
        self.compile_seconds = 0.0
        self._values = {name: [] for name in _PER_STEP}
        self._rates = []
        self._snapshots = []
        self._snapshot_steps = []
        self._snapshot = snapshot
        self._every = snapshot_every

    def add(self, records, seconds):
        """Add the records of a dispatch that took `seconds`."""
        count = int(records.n_steps)
        for name, values in self._values.items():
            if (column := getattr(records, name)) is not None:
                values.append(column[:count])
        self._rates.append(count / seconds)

    def take_snapshot(self, model, done, *, last=False):
        """Take a snapshot if one is due after `done` steps, or if they are the last ones."""
        due = last or done % self._every == 0 or done == self.steps
        if self._snapshot is not None and due and done not in self._snapshot_steps:
            self._snapshots.append(jax.device_get(self._snapshot(model)))
            self._snapshot_steps.append(done)

    def last_loss(self):
        """Return the loss of the last step."""
        return self._values["losses"][-1][-1]

    def result(self, done):
        """Return the fields of a `FitResult` of `done` steps, by name."""
        end = self._rates[-max(1, round(_END_OF_TRAINING * len(self._rates))) :]
        return {
            **self.of_steps(0, done),
            "snapshots": stack(self._snapshots) if self._snapshots else None,
            "snapshot_steps": np.asarray(self._snapshot_steps),
            "compile_seconds": self.compile_seconds,
            "steps_per_second": float(np.median(end)) if end else 0.0,
        }

    def pack(self, done) -> dict[str, np.ndarray]:
        """Return the records of `done` steps as arrays, for a checkpoint."""
        known = {name: value for name, value in self.of_steps(0, done).items() if value is not None}
        state = {f"history-{name}": np.asarray(value) for name, value in known.items()}
        state |= {"rates": np.asarray(self._rates), "snapshot_steps": self._snapshot_steps}
        for i, leaf in enumerate(
            jax.tree.leaves(stack(self._snapshots) if self._snapshots else ())
        ):
            state[f"snapshot-{i}"] = leaf
        return {name: np.asarray(value) for name, value in state.items()}

    def restore(self, arrays: Mapping[str, np.ndarray]):
        """Restore the records. The first snapshot, which has been taken, shows their structure."""
        for name in _PER_STEP:
            found = arrays.get(f"history-{name}", np.zeros(0))
            self._values[name] = [found] if len(found) else []
        self._rates = arrays["rates"].tolist()
        self._snapshot_steps = arrays["snapshot_steps"].astype(int).tolist()
        if self._snapshots:
            leaves, structure = jax.tree.flatten(self._snapshots[0])
            table = [arrays[f"snapshot-{i}"] for i in range(len(leaves))]
            count = len(self._snapshot_steps)
            self._snapshots = [
                jax.tree.unflatten(structure, [column[i] for column in table]) for i in range(count)
            ]

    def of_steps(self, start, done):
        """Values of the steps from `start` to `done`; None for those that are not recorded."""
        found = {
            name: np.concatenate(values)[start:done] if values else None
            for name, values in self._values.items()
        }
        return found | {"losses": np.zeros(0) if found["losses"] is None else found["losses"]}


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

    def pack(self) -> dict[str, np.ndarray]:
        """Return the state, for a checkpoint."""
        return {
            "zeros_reported": np.asarray(self._zeros_reported),
            "outputs_reported": self._reported,
            "last_gradient": self._last_gradient,
        }

    def restore(self, arrays: Mapping[str, np.ndarray]):
        """Restore the state."""
        self._zeros_reported = bool(arrays["zeros_reported"])
        self._reported = arrays["outputs_reported"].astype(bool)
        self._last_gradient = arrays["last_gradient"].astype(int)
