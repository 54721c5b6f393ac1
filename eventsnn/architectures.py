"""Architectures: functions that return masks, and networks from a random key."""

import itertools
from collections.abc import Callable, Sequence

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .adjoint import AbstractAdjoint
from .flows import AbstractFlow
from .network import EventNetwork
from .neurons import AbstractNeuron
from .pseudospikes import Pseudospikes

#: As in `jax.nn.initializers`: `init(key, shape, dtype)`.
Initializer = Callable[..., Float[Array, "sources targets"]]


def recurrent_mask(
    inputs: int, hidden: int, outputs: int, *, self_connections: bool = False
) -> Bool[Array, "sources neurons"]:
    """Inputs to all hidden neurons, these to each other and to all outputs.

    Neurons `0 ... hidden-1` are hidden, the following ones are outputs.
    """
    n = hidden + outputs
    mask = np.zeros((n + inputs, n), bool)
    mask[:hidden] = True
    mask[n:, :hidden] = True
    if not self_connections:
        mask[np.arange(hidden), np.arange(hidden)] = False
    return jnp.asarray(mask)


def feedforward_mask(sizes: Sequence[int]) -> Bool[Array, "sources neurons"]:
    """Layers of the given sizes, inputs first: each projects to all of the next.

    Neurons are numbered layer by layer; the last layer's are the outputs.
    """
    inputs, *layers = _sizes(sizes)
    n, starts = sum(layers), np.cumsum([0, *layers])
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
    init: Initializer,
    key: PRNGKeyArray,
    t_max: float,
    self_connections: bool = False,
    delays: Float[ArrayLike, "sources *neurons"] | None = None,
    pseudospikes: Pseudospikes | None = None,
    max_events: int = 500,
    max_steps: int | None = None,
    queue_capacity: int = 32,
    solver: diffrax.AbstractSolver | AbstractFlow | None = None,
    adjoint: AbstractAdjoint | None = None,
) -> EventNetwork:
    """A network of one recurrent population and outputs that read it, see [`recurrent_mask`][].

    **Arguments:**

    - `neuron`: parameters scalar or of shape `(hidden + outputs,)`.
    - `init`: how to draw the weights of the whole matrix, for example
        `jax.nn.initializers.normal(1.0)`; called as `init(key, shape, dtype)`.
    - `t_max`, `delays`, `pseudospikes`, `max_events`, `max_steps`, `queue_capacity`, `solver`,
        `adjoint`: as for [`eventsnn.EventNetwork`][].
    """
    mask = recurrent_mask(inputs, hidden, outputs, self_connections=self_connections)
    weights = jnp.where(mask, init(key, mask.shape, _dtype()), 0.0)
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
        adjoint=adjoint,
    )


def feedforward(
    neuron: AbstractNeuron,
    *,
    sizes: Sequence[int],
    init: Initializer | Sequence[Initializer],
    key: PRNGKeyArray,
    t_max: float,
    delays: Float[ArrayLike, "sources *neurons"] | None = None,
    pseudospikes: Pseudospikes | None = None,
    max_events: int = 500,
    max_steps: int | None = None,
    queue_capacity: int = 32,
    solver: diffrax.AbstractSolver | AbstractFlow | None = None,
    adjoint: AbstractAdjoint | None = None,
) -> EventNetwork:
    """A network of layers of the given sizes, inputs first, see [`feedforward_mask`][].

    **Arguments:**

    - `neuron`: parameters scalar or of shape `(sum(sizes[1:]),)`.
    - `sizes`: `(inputs, layer, ..., outputs)`.
    - `init`: how to draw a layer's weights, called as `init(key, (from, to), dtype)`; one for
        all layers, or one for each.
    - `t_max`, `delays`, `pseudospikes`, `max_events`, `max_steps`, `queue_capacity`, `solver`,
        `adjoint`: as for [`eventsnn.EventNetwork`][].

    **Raises:** `ValueError` for fewer than two sizes, a size < 1, or not one `init` a layer.
    """
    inputs, *layers = _sizes(sizes)
    inits = [init] * len(layers) if callable(init) else list(init)
    if len(inits) != len(layers):
        raise ValueError(f"init must be one or {len(layers)} functions, got {len(inits)}.")
    n, starts = sum(layers), np.cumsum([0, *layers])
    weights = jnp.zeros((n + inputs, n), _dtype())
    rows = [slice(n, n + inputs), *itertools.starmap(slice, itertools.pairwise(starts))]
    keys = jax.random.split(key, len(layers))
    for draw, k, row, a, b in zip(inits, keys, rows[:-1], starts[:-1], starts[1:], strict=True):
        shape = (row.stop - row.start, b - a)
        weights = weights.at[row, a:b].set(draw(k, shape, weights.dtype))
    return EventNetwork(
        neuron,
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
        adjoint=adjoint,
    )


def _sizes(sizes: Sequence[int]) -> list[int]:
    out = [int(s) for s in sizes]
    if len(out) < 2 or min(out) < 1:
        raise ValueError(f"sizes must be at least two numbers >= 1, inputs first, got {sizes!r}.")
    return out


def _dtype():
    return jnp.zeros(()).dtype
