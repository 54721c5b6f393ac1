"""Architectures: masks of synapses, and networks with random weights."""

import itertools
from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, Real

from .. import checks
from .adjoint import AbstractAdjoint
from .flows import AbstractFlow
from .init import DEVIATION, MEAN, RECURRENT, Initializer, critical_drive, normal
from .layers import EventLinear, EventSequential
from .network import EventNetwork
from .neurons import AbstractNeuron, Populations
from .pseudospikes import Pseudospikes


def recurrent_mask(
    inputs: int, hidden: int, outputs: int, *, self_connections: bool = False
) -> Bool[Array, "sources neurons"]:
    """Mask of a recurrent network.

    Inputs project to all hidden neurons. Hidden neurons project to each other and to all outputs.
    Neurons `0 ... hidden-1` are hidden, the following ones are outputs.

    **Arguments:**

    - `inputs`, `hidden`, `outputs`: numbers of input channels, hidden neurons and outputs.
    - `self_connections`: whether hidden neurons also project to themselves; False by default.

    **Raises:** `ValueError` for `inputs` < 0, or `hidden` or `outputs` < 1.
    """
    inputs = checks.integer("inputs", inputs, 0)
    hidden, outputs = checks.count("hidden", hidden), checks.count("outputs", outputs)
    n = hidden + outputs
    mask = np.zeros((n + inputs, n), bool)
    mask[:hidden] = True
    mask[n:, :hidden] = True
    if not checks.flag("self_connections", self_connections):
        mask[np.arange(hidden), np.arange(hidden)] = False
    return jnp.asarray(mask)


def feedforward_mask(sizes: Sequence[int]) -> Bool[Array, "sources neurons"]:
    """Mask of a feed-forward network, in which each layer projects to all neurons of the next.

    Neurons are numbered layer by layer. The neurons of the last layer are the outputs.

    **Arguments:**

    - `sizes`: sizes of the layers, inputs first: `(inputs, layer, ..., outputs)`.

    **Raises:** `ValueError` for fewer than two sizes, or a size that is not an integer >= 1.
    """
    inputs, *layers = _sizes(sizes)
    n, starts = sum(layers), np.cumsum([0, *layers]).tolist()
    mask = np.zeros((n + inputs, n), bool)
    mask[n:, : layers[0]] = True
    for a, b, c in zip(starts, starts[1:], starts[2:], strict=False):
        mask[a:b, b:c] = True
    return jnp.asarray(mask)


def recurrent(
    neuron: AbstractNeuron,
    *,
    inputs: int,
    hidden: int,
    outputs: int,
    key: PRNGKeyArray,
    t_max: float,
    init: Initializer | None = None,
    readout: AbstractNeuron | None = None,
    self_connections: bool = False,
    delays: Real[ArrayLike, " sources *neurons"] | Sequence | None = None,
    pseudospikes: Pseudospikes | None = None,
    max_events: int = 500,
    max_steps: int | None = None,
    queue_capacity: int | None = None,
    solver: diffrax.AbstractSolver | AbstractFlow | None = None,
    dt0: float | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    adjoint: AbstractAdjoint | None = None,
    max_spikes: int | None = None,
) -> EventNetwork:
    """Network of one recurrent population and its outputs, with random weights.

    **Arguments:**

    - `neuron`: neuron model. Its parameters are scalars or have shape `(hidden + outputs,)`. A
        scalar bias is one number that all neurons share, also in training.
    - `inputs`, `hidden`, `outputs`, `self_connections`: as for [`recurrent_mask`][].
    - `key`: random key.
    - `init`: initialiser of the whole weight matrix, called as `init(key, shape, dtype)`, for
        example `jax.nn.initializers.normal(1.0)`. Default: None, normally distributed weights with
        which the neurons fire, as [`eventsnn.init.normal`][].
    - `readout`: neuron model of the outputs, for example an [`eventsnn.LeakyIntegrator`][]. Then
        the parameters of `neuron` are scalars or have shape `(hidden,)`. Default: None, `neuron`.
    - `t_max`, `delays`, `pseudospikes`, `max_events`, `max_steps`, `queue_capacity`, `solver`,
        `dt0`, `stepsize_controller`, `adjoint`, `max_spikes`: as for [`eventsnn.EventNetwork`][].

    **Raises:** as [`recurrent_mask`][] and [`eventsnn.EventNetwork`][].
    """
    mask = recurrent_mask(inputs, hidden, outputs, self_connections=self_connections)
    if readout is not None:
        checks.instance("readout", readout, AbstractNeuron, "a neuron model")
        neuron = Populations([(neuron, hidden), (readout, outputs)])
    key = checks.key("key", key)
    if init is None:
        drawn = _recurrent_weights(neuron, mask, key, t_max)
    else:
        drawn = _draw(checks.function("init", init), key, mask.shape)
    weights = jnp.where(mask, drawn, 0.0)
    return EventNetwork(
        neuron,
        weights,
        mask,
        outputs=range(hidden, hidden + outputs),
        t_max=t_max,
        delays=delays,
        pseudospikes=pseudospikes,
        max_events=max_events,
        max_steps=max_steps,
        queue_capacity=queue_capacity,
        solver=solver,
        dt0=dt0,
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
        max_spikes=max_spikes,
    )


def _recurrent_weights(
    neuron: AbstractNeuron, mask: Bool[Array, "sources neurons"], key: PRNGKeyArray, t_max: float
) -> Float[Array, "sources columns"]:
    """Draw default weights, whose distribution depends on the number of inputs of each neuron.

    Neurons with input channels have the drive of a layer from them. Their recurrent synapses have
    mean 0 and add `RECURRENT` of the variance, so that activity does not amplify itself.
    """
    n, drive = mask.shape[1], critical_drive(neuron, t_max=t_max)
    outer, inner = mask.at[:n].set(False), mask.at[n:].set(False)
    driven = jnp.any(outer, axis=0)  # the others receive only spikes of neurons
    main = jnp.where(driven, outer, inner)
    many, rest = (jnp.sum(x, axis=0, dtype=_dtype()) for x in (main, inner))
    mean = jnp.where(main, MEAN / many, 0.0)
    variance = jnp.where(main, 1 / many, RECURRENT / rest)
    draws = jax.random.normal(key, mask.shape, _dtype())
    return drive * (mean + DEVIATION * jnp.sqrt(variance) * draws)


def feedforward(
    neuron: AbstractNeuron,
    *,
    sizes: Sequence[int],
    key: PRNGKeyArray,
    t_max: float,
    init: Initializer | Sequence[Initializer] | None = None,
    readout: AbstractNeuron | None = None,
    max_spikes: int | None = None,
    truncate: bool = False,
    delays: Real[ArrayLike, " sources *neurons"] | Sequence | None = None,
    pseudospikes: Pseudospikes | None = None,
    max_events: int | None = None,
    max_steps: int | None = None,
    solver: diffrax.AbstractSolver | AbstractFlow | None = None,
    dt0: float | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    adjoint: AbstractAdjoint | None = None,
) -> EventSequential:
    """Feed-forward network with random weights: a sequence of [`eventsnn.EventLinear`][] layers.

    [`feedforward_network`][] builds the same network, with the same random weights, in one event
    loop.

    **Arguments:**

    - `neuron`: neuron model. Its parameters are scalars or have shape `(sum(sizes[1:]),)`. A scalar
        bias is one number that all neurons share, also in training.
    - `sizes`: sizes of the layers, inputs first: `(inputs, layer, ..., outputs)`.
    - `key`: random key.
    - `init`: initialiser of a layer's weights, called as `init(key, (from, to), dtype)`. Either
        one for all layers, or one per layer. Default: None, normally distributed weights with
        which the neurons fire, see [`eventsnn.init.normal`][].
    - `readout`: neuron model of the last layer, for example an [`eventsnn.LeakyIntegrator`][].
        Then the parameters of `neuron` are scalars or have shape `(sum(sizes[1:-1]),)`. Default:
        None, `neuron`.
    - `max_spikes`: number of spikes of each neuron that a layer returns. It must be given for two
        or more layers of neurons.
    - `delays`, `pseudospikes`: as for [`feedforward_network`][], for all neurons together.
    - `t_max`, `truncate`, `max_events`, `max_steps`, `solver`, `dt0`, `stepsize_controller`,
        `adjoint`: as for [`eventsnn.EventLinear`][], the same for all layers.

    **Raises:** as [`feedforward_network`][] and [`eventsnn.EventLinear`][].
    """
    options: dict[str, Any] = {
        "t_max": t_max,
        "solver": solver,
        "dt0": dt0,
        "stepsize_controller": stepsize_controller,
        "adjoint": adjoint,
    }
    together = {"delays": delays, "pseudospikes": pseudospikes}
    network = {"init": init, "readout": readout, "key": key, **together, **options}
    whole = feedforward_network(neuron, sizes=sizes, **network)
    n, layers, start = whole.n_neurons, [], 0
    source, numbers = slice(n, n + whole.n_inputs), _sizes(sizes)[1:]
    for size, own_neuron in zip(numbers, _by_layer(neuron, readout, numbers), strict=True):
        own = slice(start, start + size)
        d, late = whole.delays, whole.pseudospikes
        layer = EventLinear(
            own_neuron,
            whole.matrix[source, own],
            max_spikes=max_spikes,
            truncate=truncate,
            delays=d if d is None else d[source] if d.ndim == 1 else d[source, own],
            pseudospikes=_part(late, own, n),
            max_events=max_events,
            max_steps=max_steps,
            **options,
        )
        layers.append(layer)
        source, start = own, start + size
    return EventSequential(layers)


def _by_layer(
    neuron: AbstractNeuron, readout: AbstractNeuron | None, layers: Sequence[int]
) -> list[AbstractNeuron]:
    """Neuron model of each layer, with its own parameters."""
    neuron = checks.instance("neuron", neuron, AbstractNeuron, "a neuron model")
    same = layers if readout is None else layers[:-1]
    starts = np.cumsum([0, *same]).tolist()
    neurons = [_part(neuron, slice(*own), starts[-1]) for own in itertools.pairwise(starts)]
    if readout is None:
        return neurons
    if not neurons:
        raise checks.value_error("readout", readout, "None for a single layer")
    return [*neurons, checks.instance("readout", readout, AbstractNeuron, "a neuron model")]


def _part(tree: Any, neurons: slice, n: int) -> Any:
    """Parameters of some of `n` neurons."""

    def one(x):
        return x[neurons] if eqx.is_array(x) and x.shape == (n,) else x

    return jax.tree.map(one, tree)


def feedforward_network(
    neuron: AbstractNeuron,
    *,
    sizes: Sequence[int],
    key: PRNGKeyArray,
    t_max: float,
    init: Initializer | Sequence[Initializer] | None = None,
    readout: AbstractNeuron | None = None,
    delays: Real[ArrayLike, " sources *neurons"] | Sequence | None = None,
    pseudospikes: Pseudospikes | None = None,
    max_events: int = 500,
    max_steps: int | None = None,
    queue_capacity: int | None = None,
    solver: diffrax.AbstractSolver | AbstractFlow | None = None,
    dt0: float | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    adjoint: AbstractAdjoint | None = None,
    max_spikes: int | None = None,
) -> EventNetwork:
    """Feed-forward network with random weights in one event loop, see [`feedforward_mask`][].

    [`eventsnn.feedforward`][] builds layers instead, which are faster.

    **Arguments:**

    - `neuron`: neuron model. Its parameters are scalars or have shape `(sum(sizes[1:]),)`. A scalar
        bias is one number that all neurons share, also in training.
    - `sizes`: sizes of the layers, inputs first: `(inputs, layer, ..., outputs)`.
    - `key`: random key.
    - `init`: initialiser of a layer's weights, called as `init(key, (from, to), dtype)`. Either
        one for all layers, or one per layer. Default: None, normally distributed weights with
        which the neurons fire, see [`eventsnn.init.normal`][].
    - `readout`: neuron model of the last layer, for example an [`eventsnn.LeakyIntegrator`][].
        Then the parameters of `neuron` are scalars or have shape `(sum(sizes[1:-1]),)`. Default:
        None, `neuron`.
    - `t_max`, `delays`, `pseudospikes`, `max_events`, `max_steps`, `queue_capacity`, `solver`,
        `dt0`, `stepsize_controller`, `adjoint`, `max_spikes`: as for [`eventsnn.EventNetwork`][].

    **Raises:** `ValueError` for fewer than two sizes, a size < 1, or a sequence `init` without
    exactly one initialiser per layer.
    """
    inputs, *layers = _sizes(sizes)
    neurons = _by_layer(neuron, readout, layers)
    if init is None:
        init = [normal(one, t_max=t_max) for one in neurons]
    inits = _each(init, len(layers))
    n, starts = sum(layers), np.cumsum([0, *layers]).tolist()
    weights = jnp.zeros((n + inputs, n), _dtype())
    rows = [slice(n, n + inputs), *itertools.starmap(slice, itertools.pairwise(starts))]
    keys = jax.random.split(checks.key("key", key), len(layers))
    for draw, k, row, a, b in zip(inits, keys, rows[:-1], starts[:-1], starts[1:], strict=True):
        shape = (row.stop - row.start, b - a)
        weights = weights.at[row, a:b].set(_draw(draw, k, shape))
    return EventNetwork(
        neuron if readout is None else Populations([(neuron, starts[-2]), (readout, layers[-1])]),
        weights,
        feedforward_mask(sizes),
        outputs=range(starts[-2], n),
        t_max=t_max,
        delays=delays,
        pseudospikes=pseudospikes,
        max_events=max_events,
        max_steps=max_steps,
        queue_capacity=queue_capacity,
        solver=solver,
        dt0=dt0,
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
        max_spikes=max_spikes,
    )


def _sizes(sizes: Sequence[int]) -> list[int]:
    expected = "at least two integers >= 1, inputs first"
    out = list(checks.instance("sizes", sizes, list | tuple | range | np.ndarray, expected))
    if len(out) < 2:
        raise checks.value_error("sizes", sizes, expected)
    return [checks.count(f"sizes[{i}]", size) for i, size in enumerate(out)]


def _each(init: Initializer | Sequence[Initializer], n: int) -> list[Initializer]:
    """One initialiser per layer."""
    inits = [init] * n if callable(init) else init
    one_each = isinstance(inits, list | tuple) and len(inits) == n
    if not one_each or not all(callable(draw) for draw in inits):
        raise checks.value_error("init", init, f"one function or {n}, one per layer")
    return list(inits)


def _draw(init: Initializer, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Draw weights of the given shape; raise an error if `init` returns another shape."""
    drawn = init(key, shape, _dtype())
    expected = f"a function that returns an array of shape {shape}"
    if np.shape(checks.numbers("init", drawn, expected)) != shape:
        raise ValueError(f"init must be {expected}, got shape {np.shape(drawn)}.")
    return jnp.asarray(drawn, _dtype())


def _dtype():
    return jnp.zeros(()).dtype
