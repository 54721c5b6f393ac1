"""Yin-Yang with QIF neurons: setting, initial state and data, from a seed with NumPy alone.

All libraries get the same file, so the results do not depend on any library's random numbers.
Setting: five inputs, 20 hidden QIF neurons, three outputs; the published points in an order that is
drawn anew for every epoch.
"""

import numpy as np

from eventsnn.data import yin_yang

from ..harness.batches import epoch_order
from ..workers.files import Arrays

SIZES = (5, 20, 3)
BATCH = 256
EPOCHS = 100
STEPS = EPOCHS * (5000 // BATCH)
SETTING = {
    "tau_mem": 20.0,
    "tau_syn": 5.0,
    "t_max": 30.0,
    "max_events": 100,
    "batch_size": BATCH,
    "learning_rate": 5e-2,
    "tau0": 0.5,
    "tau1": 6.4,
    "alpha": 3e-3,
}


def connections() -> np.ndarray:
    """Mask (28, 23), rows are sources: inputs to the hidden neurons, and these to the outputs."""
    n_in, hidden, n_out = SIZES
    mask = np.zeros((hidden + n_out + n_in, hidden + n_out), bool)
    mask[:hidden, hidden:] = True
    mask[hidden + n_out :, :hidden] = True
    return mask


def make(seed: int, steps: int = STEPS) -> Arrays:
    """Draw mask, initial state, batches for `steps` training steps, and test set."""
    rng, mask, data = np.random.default_rng(seed), connections(), yin_yang.published()
    (x, y), (x_test, y_test) = (map(np.asarray, part) for part in (data.train, data.test))
    order = epoch_order(len(y), BATCH, steps, rng)
    weights = mask * rng.uniform(0.0, 40.0, mask.shape)
    bias = rng.uniform(-0.5, 0.5, mask.shape[1])
    arrays = {"weights": weights, "bias": bias, "x": x[order], "x_test": x_test}
    labels = {"y": y[order], "y_test": y_test, "mask": mask}
    return {name: a.astype(np.float64) for name, a in arrays.items()} | labels
