"""A first network on each data set: default weights, a readout of potentials, Adam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import eventsnn as esn
from eventsnn import encoders
from eventsnn.data import images, yin_yang
from eventsnn.train import fit

# Time constants and latest input spike, in ms.
TAU, LATEST = 20.0, 20.0
# Number of spikes per neuron that a layer returns.
MAX_SPIKES = 10


class Spikes(NamedTuple):
    """Input spikes and classes of the training and test sets."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Case:
    """Network, data set, time limit (ms) and settings of Adam."""

    neuron: Callable[[float, float], esn.AbstractNeuron]
    data: str
    hidden: int
    epochs: int
    recurrent: bool = False
    t_max: float = 20.0
    batch_size: int = 32
    learning_rate: float = 0.02


def load(case: Case, folder: str | None) -> Spikes:
    """Load the data set of a case as input spikes, one per channel."""
    if case.data == "yin-yang":
        found = yin_yang.published()
        train, test = (
            np.asarray(yin_yang.event_inputs(x.xy, t_max=LATEST)) for x in (found.train, found.test)
        )
        return Spikes(train, np.asarray(found.train.labels), test, np.asarray(found.test.labels))
    found = images.load(case.data, data_dir=folder)
    train, test = (_latencies(x) for x in (found.train_images, found.test_images))
    return Spikes(train, found.train_labels, test, found.test_labels)


def _latencies(x: np.ndarray) -> np.ndarray:
    """Spike times of grey values: the brightest pixels fire first, black ones are silent."""
    times = encoders.latency_times(x, tau=LATEST, mode="linear", threshold=0.05, clip=True)
    return np.asarray(times).reshape(len(x), -1, 1)


def build(case: Case, spikes: Spikes, seed: int, start: str = "default") -> Any:
    """Build the network with the default weights.

    The start `silent` divides them by 100, `silent, calibrated` then calibrates them on 100 samples
    of the training set. A hidden layer that starts silent without calibration has pseudospikes.
    """
    neuron, readout = case.neuron(TAU, TAU), esn.LeakyIntegrator(TAU, TAU)
    inputs, outputs = spikes.train.shape[1], int(spikes.train_labels.max()) + 1
    options = {"readout": readout, "key": jax.random.key(seed), "t_max": case.t_max}
    late = esn.Pseudospikes(at_t_max=True) if start == "silent" else None
    if case.recurrent:
        options |= {"max_events": 3000}
        model = esn.recurrent(neuron, inputs=inputs, hidden=case.hidden, outputs=outputs, **options)
    else:
        options |= {"max_spikes": MAX_SPIKES, "truncate": True, "pseudospikes": late}
        model = esn.feedforward(neuron, sizes=(inputs, case.hidden, outputs), **options)
    if start == "default":
        return model
    spec = esn.trainable(model, "weights")
    model = jax.tree.map(lambda x, trains: x / 100 if trains else x, model, spec)
    return model if start == "silent" else esn.calibrate(model, jnp.asarray(spikes.train[:100]))


def loss_of(case: Case) -> Callable[[Any, Any], Any]:
    """Make the loss: the cross entropy of the membrane potentials averaged over time."""

    def loss(model, batch):
        in_times, labels = batch
        scores = model.integrals(in_times, throw=False) / case.t_max
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))

    return loss


def train(case: Case, spikes: Spikes, model: Any, seed: int, *, steps: int | None = None) -> Any:
    """Train the model."""
    steps = steps or len(spikes.train) // case.batch_size * case.epochs
    optimizer = optax.adam(optax.cosine_decay_schedule(case.learning_rate, steps))
    batches = images.batches(seed, spikes.train, spikes.train_labels, batch_size=case.batch_size)
    return fit(model, batches, loss_of(case), optimizer, steps=steps, progress=False)


def accuracy(model: Any, in_times: np.ndarray, labels: np.ndarray, batch: int = 500) -> float:
    """Fraction of samples whose class has the largest mean membrane potential."""
    starts = range(0, len(labels), batch)
    right = [_right(model, in_times[i : i + batch], labels[i : i + batch]) for i in starts]
    return float(np.mean(np.concatenate(right)))


@eqx.filter_jit
def _right(model, in_times, labels):
    return jnp.argmax(model.integrals(jnp.asarray(in_times), throw=False), axis=-1) == labels
