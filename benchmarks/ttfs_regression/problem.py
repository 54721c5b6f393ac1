"""Setting, initial state and data of the spike-time regression, from a seed with NumPy alone.

Both libraries get the same file, so the results do not depend on either library's random numbers.
Setting: 20 recurrent QIF neurons without self-connections and one output; input spikes at 0 and x;
target 5 sin(2 pi x / 10) + x + 30.
"""

import numpy as np

from ..workers.files import Arrays

N_POP = 20
BATCH = 64
STEPS = 1562
SETTING = {
    "tau_mem": 20.0,
    "tau_syn": 5.0,
    "t_max": 80.0,
    "max_events": 500,
    "batch_size": BATCH,
    "learning_rate": 0.1,
}


def connections() -> np.ndarray:
    """Mask (22, 21), rows are sources: population to itself and to the output, input to it."""
    mask = np.zeros((N_POP + 2, N_POP + 1), bool)
    mask[:N_POP, :N_POP] = ~np.eye(N_POP, dtype=bool)
    mask[:N_POP, N_POP] = True
    mask[N_POP + 1, :N_POP] = True
    return mask


def target(x: np.ndarray) -> np.ndarray:
    """Target time of the output spike, in ms."""
    return 5.0 * np.sin(2 * np.pi * x / 10) + x + 30.0


def make(seed: int, steps: int = STEPS) -> Arrays:
    """Draw mask, initial state, batches for `steps` training steps, and test grid."""
    rng, mask = np.random.default_rng(seed), connections()
    weights = mask * rng.uniform(0.0, 40.0, mask.shape)
    bias = rng.uniform(-0.25, 0.25, N_POP + 1)
    x, x_test = rng.uniform(0.0, 30.0, (steps, BATCH)), np.linspace(0.0, 30.0, 100)
    arrays = {"weights": weights, "bias": bias, "x": x, "x_test": x_test}
    arrays |= {"y": target(x), "y_test": target(x_test)}
    return {name: a.astype(np.float32) for name, a in arrays.items()} | {"mask": mask}
