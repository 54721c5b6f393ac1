"""Runs of a model over time, for one sample or a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import checks
from ..constraints import unwrap
from .base import AbstractCell, call
from .given import Feed, asked, feed, fitting, typed_key
from .sequential import Sequential, named


class Run(NamedTuple):
    """Result of [`run`][]. If `layers` is a sequence, the first two fields are tuples with one
    entry per layer."""

    spikes: Any
    """Output of the layer at each step, `(T, *neurons)`. For a spiking cell, its spikes."""
    membranes: Any
    """Membrane potential of the layer after each step, `(T, *neurons)`. None for a layer without
    membrane potential."""
    state: PyTree
    """State after the last step, from which another run can continue."""


def run(
    model: AbstractCell,
    xs: PyTree[Float[Array, " steps *features"] | Float[Array, "*features"]],
    *,
    num_steps: int | None = None,
    layers: int | Sequence[int] = -1,
    state: PyTree = None,
    key: PRNGKeyArray | None = None,
    parallel: bool = False,
) -> Run:
    """Run a model on one sample, step by step, in one `lax.scan`.

    Layers before the first cell and after the last cell are not part of the recurrence. They are
    applied to all steps at once, as one large product instead of many small ones. A constant input
    passes the layers before the first cell only once.

    The run is compiled once for all models of the same structure and inputs of the same shape. A
    layer that is a user-defined function must be pure, and the same object at each call. Within
    another `jax.jit` the run becomes part of that program. Parameters wrapped by
    [`eventsnn.constrain`][] are unwrapped first.

    Use [`run_batch`][] for a batch.

    **Arguments:**

    - `model`: a cell, a [`eventsnn.discrete.Sequential`][], or your own
        [`eventsnn.discrete.AbstractCell`][].
    - `xs`: the input of each step, time axis first. With `num_steps`, one input that is used at all
        steps. For a model with several inputs, a tuple or dict of such arrays. Cells take
        floating-point numbers: convert event counts with `xs.astype(jnp.float32)`.
    - `num_steps`: number of steps of a constant input. Default: None, the length of the time axis
        of `xs`.
    - `layers`: index or indices of the layers of a `Sequential` to record. Default: -1, the last
        layer.
    - `state`: initial state, from an earlier run or from `model.init_state(x)` with `x` the input
        of one step. Default: None, the latter.
    - `key`: random key for dropout and stochastic surrogates. Each step uses a new key. Default:
        None, no key.
    - `parallel`: whether to compute layer by layer, each over all steps. Cells without reset
        (`reset="none"`, `LeakyIntegrator`) then use an associative scan. The results are equal up
        to rounding. For long sequences on parallel hardware. Default: False.

    **Returns:** a [`Run`][].

    **Raises:** `ValueError` for invalid arguments.
    """
    found, shown = feed(xs, num_steps, batch=False), _asked(model, layers, parallel)
    out = _compiled(model, found, state, typed_key(key), shown, parallel)
    return _of_one(out) if isinstance(layers, int | np.integer) else out


def run_batch(
    model: AbstractCell,
    xs: PyTree[Float[Array, " steps batch *features"] | Float[Array, " batch *features"]],
    *,
    num_steps: int | None = None,
    layers: int | Sequence[int] = -1,
    state: PyTree = None,
    key: PRNGKeyArray | None = None,
    parallel: bool = False,
) -> Run:
    """Run a model on a batch. The order of the axes is time, batch, features.

    The order of the first two axes of `xs` cannot be checked. Data sets and the batches of
    [`eventsnn.train.fit`][] have the sample axis first. A loss of such data has to move the time
    axis to the front:

    ```python
    def loss(model, batch):
        frames, labels = batch  # (batch, T, 2, height, width), integers
        xs = jnp.moveaxis(frames, 1, 0).astype(jnp.float32)
        return losses.ce_count(discrete.run_batch(model, xs).spikes, labels)
    ```

    **Arguments:** as for [`run`][], except for

    - `xs`: inputs of shape `(T, batch, *features)`, or `(batch, *features)` with `num_steps`.
    - `state`: initial state with the batch as its first axis, from an earlier run or from
        `jax.vmap(model.init_state)(x)` with `x` of shape `(batch, *features)`. Default: None, the
        latter.
    - `key`: one random key, which is split into one key per sample, or keys of shape `(batch,)`.
        Default: None, no key.

    **Returns:** a [`Run`][] with spikes and membranes of shape `(T, batch, *neurons)`, and a state
    with the batch as its first axis.
    """
    found, shown = feed(xs, num_steps, batch=True), _asked(model, layers, parallel)
    samples = jax.tree.leaves(found.first())[0].shape[0]
    out = _compiled_batch(model, found, state, typed_key(key, samples), shown, parallel)
    return _of_one(out) if isinstance(layers, int | np.integer) else out


def _asked(model, layers, parallel):
    """Check the model and the static arguments. Return the indices of the layers to record."""
    expected = "a cell, or layers in a discrete.Sequential"
    checks.instance("model", model, AbstractCell, expected)
    checks.flag("parallel", parallel)
    return asked(layers, len(model.layers) if isinstance(model, Sequential) else 1)


def _of_one(out):
    return out._replace(spikes=out.spikes[0], membranes=out.membranes[0])


@eqx.filter_jit
def _compiled(model, feed, state, key, asked, parallel):
    model = unwrap(model)
    if state is not None:
        state = fitting(state, model.init_state, feed.first(), "model.init_state(x)")
    return _over_time(model, feed, state, key, asked, parallel)


@eqx.filter_jit
def _compiled_batch(model, feed, state, key, asked, parallel):
    model, axis = unwrap(model), 0 if feed.constant else 1
    x = feed.first()
    if state is not None:
        init_state = jax.vmap(model.init_state)
        state = fitting(state, init_state, x, "jax.vmap(model.init_state)(x)")
    if key is not None and key.ndim == 0:
        key = jax.random.split(key, jax.tree.leaves(x)[0].shape[0])

    def one(x, state, key):
        return _over_time(model, feed._replace(x=x), state, key, asked, parallel)

    in_axes = (axis, None if state is None else 0, None if key is None else 0)
    return jax.vmap(one, in_axes=in_axes, out_axes=Run(1, 1, 0))(feed.x, state, key)


def _over_time(model, feed, state, key, asked, parallel):
    """Run one sample and record several layers."""
    stack = model.layers if isinstance(model, Sequential) else (model,)
    if state is None:
        state = model.init_state(feed.first())
    states = list(state) if isinstance(model, Sequential) else [state]

    seen: dict[int, _Seen] = {}
    for start, block in _blocks(stack, apart=parallel):
        inside, stop = feed, start + len(block)
        # The random numbers of a layer do not depend on how the layers are split into blocks.
        keys = None
        if key is not None:
            keys = [jax.random.fold_in(key, start + i) for i in range(len(block))]
        wanted = [i - start for i in asked if start <= i < stop]
        if isinstance(block[0], AbstractCell):
            over_time = _all_at_once if parallel else _scan
            first = start if isinstance(model, Sequential) else None
            found, states[start:stop] = over_time(
                block, inside, states[start:stop], keys, wanted, first
            )
            feed = Feed(found[len(block) - 1].spikes, False, feed.num_steps)
        else:
            feed = _memoryless(block[0], inside, keys and keys[0], start)
            found = {0: _Seen(feed.over_time(), None)} if wanted else {}
        seen |= {start + i: value for i, value in found.items()}

    spikes, membranes = zip(*(seen[i] for i in asked), strict=True)
    return Run(spikes, membranes, tuple(states) if isinstance(model, Sequential) else states[0])


class _Seen(NamedTuple):
    """Recorded outputs and membrane potentials of a layer over time."""

    spikes: Any
    membranes: Any


def _blocks(stack, *, apart):
    """Yield the blocks of layers to run one after the other, with the index of their first layer.

    The layers from the first cell to the last cell form one block. All other layers are blocks of
    one layer. With `apart`, every layer is its own block.
    """
    cells = [i for i, layer in enumerate(stack) if isinstance(layer, AbstractCell)]
    core = range(cells[0], cells[-1] + 1) if cells and not apart else range(0)
    for i, layer in enumerate(stack):
        if i not in core:
            yield i, (layer,)
        elif i == core.start:
            yield i, stack[core.start : core.stop]


def _memoryless(layer, feed, key, index):
    """Apply a stateless layer to all steps at once, or only once if all steps are the same."""

    def once(x, key):
        with named(index, layer, x):
            return call(layer, x, key)

    if feed.constant and (key is None or not _may_be_random(layer)):
        return feed._replace(x=once(feed.x, key))
    keys = None if key is None else jax.random.split(key, feed.num_steps)
    return Feed(jax.vmap(once)(feed.over_time(), keys), False, feed.num_steps)


def _may_be_random(layer):
    """Return whether a layer may use its key: dropout, or a module from outside `equinox.nn`."""
    if not isinstance(layer, eqx.Module):
        return False
    modules = jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, eqx.nn.Dropout))
    known = type(layer).__module__.startswith("equinox.nn")
    return not known or any(isinstance(m, eqx.nn.Dropout) for m in modules)


def _scan(block, feed, states, keys, wanted, first):
    """Run a block of layers step by step."""
    cells = Sequential(block)
    recorded = sorted({*wanted, len(block) - 1})
    nothing = [None] * len(block)

    def step(states, at):
        x, keys = at
        x = feed.x if feed.constant else x
        outs, states = cells.step(x, states, keys or nothing, first)
        return states, [_Seen(outs[i], _membrane(states[i])) for i in recorded]

    if keys is not None:
        keys = [jax.random.split(key, feed.num_steps) for key in keys]
    xs = None if feed.constant else feed.x
    states, seen = jax.lax.scan(step, tuple(states), (xs, keys), length=feed.num_steps)
    return dict(zip(recorded, seen, strict=True)), states


def _all_at_once(block, feed, states, keys, wanted, first):
    """Run one cell over all steps, by its associative scan if it has one."""
    xs = feed.over_time()
    with named(first, block[0], jax.tree.map(lambda x: x[0], xs)):
        found = block[0].in_parallel(xs, states[0], key=keys and keys[0])
    if found is None:
        return _scan(block, feed, states, keys, wanted, first)
    spikes, over_time = found
    last = jax.tree.map(lambda x: x[-1], over_time)
    return {0: _Seen(spikes, _membrane(over_time))}, (last,)


def _membrane(state):
    return getattr(state, "mem", None)
