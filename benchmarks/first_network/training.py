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
from eventsnn.data import arrays, images, yin_yang
from eventsnn.train import fit

# Time constants and latest input spike, in ms.
TAU, LATEST = 20.0, 20.0
# Number of spikes per neuron that a layer returns.
MAX_SPIKES = 10
# Starts whose silent hidden neurons have pseudospikes.
WITH_PSEUDOSPIKES = ("silent", "half silent")


class Spikes(NamedTuple):
    """Input spikes and classes of the training and test sets."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Case:
    """Network, data set, time limit (ms) and settings of Adam.

    `late` and `late_rate` apply to networks that start silent and have pseudospikes. The readouts
    integrate until `late` times the time limit. For 1, the pseudospikes have no effect on the
    potentials, but on their gradient, see `eventsnn.Pseudospikes(at_t_max=True)`.
    """

    neuron: Callable[[float, float], esn.AbstractNeuron]
    data: str
    hidden: int
    epochs: int
    recurrent: bool = False
    t_max: float = 20.0
    batch_size: int = 32
    learning_rate: float = 0.02
    late: float = 1.0
    late_rate: float | None = None


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

    The start `silent` divides all weights by 100, `silent, calibrated` then calibrates them on 100
    samples of the training set. `half silent` divides those of every second hidden neuron by 100,
    `bursting` multiplies those of all hidden neurons by 4. In hidden layers that start silent
    without calibration, silent neurons have pseudospikes.
    """
    neuron, readout = case.neuron(TAU, TAU), esn.LeakyIntegrator(TAU, TAU)
    inputs, outputs = spikes.train.shape[1], int(spikes.train_labels.max()) + 1
    late = esn.Pseudospikes(at_t_max=case.late == 1) if start in WITH_PSEUDOSPIKES else None
    options = {"readout": readout, "key": jax.random.key(seed), "t_max": case.t_max, "init": init}
    options |= {"pseudospikes": late}
    if case.recurrent:
        options |= {"max_events": 3000}
        model = esn.recurrent(neuron, inputs=inputs, hidden=case.hidden, outputs=outputs, **options)
    else:
        options |= {"max_spikes": MAX_SPIKES, "truncate": True}
        model = esn.feedforward(neuron, sizes=(inputs, case.hidden, outputs), **options)
        if late is not None and case.late > 1:
            last = model.layers[1]
            last = esn.EventLinear(readout, last.weights, t_max=case.late * case.t_max)
            model = esn.EventSequential([model.layers[0], last])
    if start.startswith("silent"):
        spec = esn.trainable(model, "weights")
        model = jax.tree.map(lambda x, trains: x / 100 if trains else x, model, spec)
    elif start != "default":
        model = _hidden_scaled(case, model, 4.0 if start == "bursting" else jnp.array([1.0, 0.01]))
    return esn.calibrate(model, jnp.asarray(spikes.train[:100])) if "calib" in start else model


def _hidden_scaled(case: Case, model: Any, factors: Any) -> Any:
    """Multiply the weights to the hidden neurons by these factors, which are repeated."""
    of_hidden = jnp.resize(jnp.asarray(factors), (case.hidden,))
    if not case.recurrent:
        return eqx.tree_at(lambda m: m.layers[0].weights, model, replace_fn=lambda w: w * of_hidden)
    scale = jnp.ones(model.n_neurons).at[: case.hidden].set(of_hidden)
    return eqx.tree_at(lambda m: m.weights, model, replace_fn=lambda w: w * scale)


def scores(case: Case, start: str, model: Any, in_times: Any) -> Any:
    """Score of each class: the membrane potential, averaged over time.

    For pseudospikes at `t_max`, the potential at `t_max`: they have a gradient in it, but not in
    the average.
    """
    late = case.late if start in WITH_PSEUDOSPIKES else 1.0
    if start in WITH_PSEUDOSPIKES and late == 1:
        return model.potentials_at(in_times, jnp.array([case.t_max]), throw=False)[..., 0]
    return model.integrals(in_times, throw=False) / (late * case.t_max)


def train(
    case: Case, start: str, spikes: Spikes, model: Any, seed: int, *, steps: int | None = None
) -> tuple[Any, float]:
    """Train the model. Return it, and the fraction of test samples that it classifies correctly.

    With pseudospikes only the weights train, see docs/silent_networks.md.
    """

    def loss(model, batch):
        found = scores(case, start, model, batch[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, batch[1]))

    steps = steps or len(spikes.train) // case.batch_size * case.epochs
    rate, trained = case.learning_rate, None
    if start in WITH_PSEUDOSPIKES:  # a bias, which all neurons share, could silence them all
        rate, trained = case.late_rate or rate, esn.trainable(model, "weights")
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    batches = arrays.batches(seed, spikes.train, spikes.train_labels, batch_size=case.batch_size)
    options = {"steps": steps, "filter_spec": trained, "progress": False}
    model = fit(model, batches, loss, optimizer, **options).model
    predict = eqx.filter_jit(lambda model, x: jnp.argmax(scores(case, start, model, x), axis=-1))
    correct = []
    parts = arrays.padded_batches(spikes.test, spikes.test_labels, batch_size=500)
    for (x, labels), valid in parts:
        correct.append((np.asarray(predict(model, jnp.asarray(x))) == labels)[valid])
    return model, float(np.mean(np.concatenate(correct)))
