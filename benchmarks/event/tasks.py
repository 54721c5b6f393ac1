"""Tasks of the event mode: settings, initial states and data, drawn from a seed with NumPy.

All libraries get the same file, so the results do not depend on any library's random numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from eventsnn.data import yin_yang
from eventsnn.event import feedforward_mask, recurrent_mask

from ..workers.files import Arrays


@dataclass(frozen=True)
class Task:
    """Task; `draw(seed, steps)` makes mask, initial state, stacked batches and test set."""

    draw: Callable[[int, int], Arrays]
    steps: int
    setting: dict[str, Any]


def regression(seed: int, steps: int) -> Arrays:
    """Draw 20 recurrent QIF neurons and one output; the target is 5 sin(2 pi x / 10) + x + 30."""
    rng, mask = np.random.default_rng(seed), np.asarray(recurrent_mask(1, 20, 1))
    arrays = {
        "weights": mask * rng.uniform(0.0, 40.0, mask.shape),
        "bias": rng.uniform(-0.25, 0.25, mask.shape[1]),
        "x": rng.uniform(0.0, 30.0, (steps, 64)),
        "x_test": np.linspace(0.0, 30.0, 100),
    }
    for y, x in (("y", arrays["x"]), ("y_test", arrays["x_test"])):
        arrays[y] = 5.0 * np.sin(2 * np.pi * x / 10) + x + 30.0
    return {name: a.astype(np.float32) for name, a in arrays.items()} | {"mask": mask}


def yin_yang_points(seed: int, steps: int) -> Arrays:
    """Draw a network of 5-20-3 QIF neurons, and the order of the published points in each epoch."""
    rng, mask = np.random.default_rng(seed), np.asarray(feedforward_mask((5, 20, 3)))
    data = yin_yang.published()
    batches = islice(yin_yang.batches(seed, data.train, batch_size=256), steps)
    x, y = (np.stack(parts) for parts in zip(*batches, strict=True))
    arrays = {
        "weights": mask * rng.uniform(0.0, 40.0, mask.shape),
        "bias": rng.uniform(-0.5, 0.5, mask.shape[1]),
        "x": x,
        "x_test": np.asarray(data.test.xy),
    }
    labels = {"y": y, "y_test": np.asarray(data.test.labels)}
    return {name: a.astype(np.float64) for name, a in arrays.items()} | labels | {"mask": mask}


_TAUS = {"tau_mem": 20.0, "tau_syn": 5.0}
_REGRESSION = {"t_max": 80.0, "max_events": 500, "batch_size": 64, "learning_rate": 0.1}
_YIN_YANG = {"t_max": 30.0, "max_events": 100, "batch_size": 256, "learning_rate": 5e-2}
_LOSS = {"tau0": 0.5, "tau1": 6.4, "alpha": 3e-3}
TASKS = {
    "ttfs-regression": Task(regression, 1562, _TAUS | _REGRESSION),
    "yin-yang": Task(yin_yang_points, 100 * (5000 // 256), _TAUS | _YIN_YANG | _LOSS),
}
