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


def build(case: Case, spikes: Spikes, seed: int, start: str = "default", init: Any = None) -> Any:
    """Build the network, with the default weights or with those of an initialiser.

    The start `silent` divides them by 100, `silent, calibrated` then calibrates them on 100 samples
    of the training set. A hidden layer that starts silent without calibration has pseudospikes.
    """
    neuron, readout = case.neuron(TAU, TAU), esn.LeakyIntegrator(TAU, TAU)
    inputs, outputs = spikes.train.shape[1], int(spikes.train_labels.max()) + 1
    options = {"readout": readout, "key": jax.random.key(seed), "t_max": case.t_max, "init": init}
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


def scores(case: Case, start: str, model: Any, in_times: Any) -> Any:
    """Score of each class: the membrane potential, averaged over time.

    For hidden neurons with pseudospikes, the potential at `t_max`: their spikes at `t_max` have a
    gradient in it, but not in the average.
    """
    if start == "silent":
        return model.potentials_at(in_times, jnp.array([case.t_max]), throw=False)[..., 0]
    return model.integrals(in_times, throw=False) / case.t_max


def train(
    case: Case, start: str, spikes: Spikes, model: Any, seed: int, *, steps: int | None = None
) -> tuple[Any, float]:
    """Train the model. Return it, and the fraction of test samples that it classifies correctly."""

    def loss(model, batch):
        found = scores(case, start, model, batch[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, batch[1]))

    steps = steps or len(spikes.train) // case.batch_size * case.epochs
    optimizer = optax.adam(optax.cosine_decay_schedule(case.learning_rate, steps))
    batches = images.batches(seed, spikes.train, spikes.train_labels, batch_size=case.batch_size)
    model = fit(model, batches, loss, optimizer, steps=steps, progress=False).model
    predict = eqx.filter_jit(lambda model, x: jnp.argmax(scores(case, start, model, x), axis=-1))
    correct = []
    for x, labels, valid in images.test_batches(spikes.test, spikes.test_labels, batch_size=500):
        correct.append((np.asarray(predict(model, jnp.asarray(x))) == labels)[valid])
    return model, float(np.mean(np.concatenate(correct)))
