"""Order of training samples, drawn with NumPy so that all libraries get the same batches."""

import numpy as np


def epoch_order(n: int, batch: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (steps, batch): epochs in random order, each without its incomplete last batch."""
    each = n // batch
    epochs = [rng.permutation(n)[: each * batch] for _ in range(-(-steps // each))]
    return np.concatenate(epochs).reshape(-1, batch)[:steps].astype(np.int32)
