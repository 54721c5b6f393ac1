"""A model over time."""

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
    """What [`run`][] hands back. Where `layers` names several layers the first two are tuples."""

    spikes: Any
    """What the layer gave at each step, `(T, *neurons)`: spikes, for a spiking cell."""
    membranes: Any
    """The layer's membrane after each step, `(T, *neurons)`; None for a layer without one."""
    state: PyTree
    """The state after the last step, to go on from."""


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
    """Run one sample through a model, step by step, in one `lax.scan`.

    Layers before the first cell and after the last have no part in the recurrence: they see all
    steps at once (one large product instead of many small ones), and an input that is the same at
    every step passes the first of them only once.

    The run is compiled, once for all models of the same structure and inputs of the same shape
    (a layer that is a function of your own must be pure, and be the same object at each call).
    Within another `jax.jit` it is a part of that program. Wrapped parameters
    ([`eventsnn.constrain`][]) are unwrapped first.

    For a batch see [`run_batch`][].

    **Arguments:**

    - `model`: a cell, a [`eventsnn.discrete.Sequential`][], or your own
        [`eventsnn.discrete.AbstractCell`][].
    - `xs`: the input of each step, time first; with `num_steps` the input of every step. For a
        model that takes them, a tuple or dict of arrays, each with the time first. Cells take
        floating-point numbers: counts of events need `xs.astype(jnp.float32)`.
    - `num_steps`: how many steps to show a constant input.
    - `layers`: which layers of a `Sequential` to record, by index, one or several. Default: the
        last.
    - `state`: where to start, as an earlier run or `model.init_state(x)` gave it, `x` being the
        input of one step. Default: the latter.
    - `key`: for dropout and stochastic surrogates, drawn anew at each step.
    - `parallel`: go layer by layer instead, each over all steps, and run cells without reset
        (`reset="none"`, `LeakyIntegrator`) by an associative scan. The same numbers up to
        rounding; for long sequences on parallel hardware.

    **Raises:** `ValueError` for arguments that do not fit.
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
    """[`run`][] for a batch, with the axes in the order of the field: time, batch, the rest.

    The order of the first two axes of `xs` cannot be seen from it. Data sets, and the batches of
    [`eventsnn.train.fit`][], have the sample first; a loss of frames moves the time to the front:

    ```python
    def loss(model, batch):
        frames, labels = batch  # (batch, T, 2, height, width), integers
        xs = jnp.moveaxis(frames, 1, 0).astype(jnp.float32)
        return losses.ce_count(discrete.run_batch(model, xs).spikes, labels)
    ```

    **Arguments:** as for [`run`][], but

    - `xs`: `(T, batch, *features)`; with `num_steps` `(batch, *features)`.
    - `state`: with the batch as its first axis, as an earlier run gave it, or as
        `jax.vmap(model.init_state)(x)` with `x` of shape `(batch, *features)`.
    - `key`: one key, of which each sample gets its own, or a key per sample, `(batch,)`.

    **Returns:** a [`Run`][] with spikes and membranes of shape `(T, batch, *neurons)`, and a state
    with the batch as its first axis.
    """
    found, shown = feed(xs, num_steps, batch=True), _asked(model, layers, parallel)
    samples = jax.tree.leaves(found.first())[0].shape[0]
    out = _compiled_batch(model, found, state, typed_key(key, samples), shown, parallel)
    return _of_one(out) if isinstance(layers, int | np.integer) else out


def _asked(model, layers, parallel):
    """The layers to record, after a check of what shapes the program."""
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
    """A run of one sample that records several layers."""
    stack = model.layers if isinstance(model, Sequential) else (model,)
    if state is None:
        state = model.init_state(feed.first())
    states = list(state) if isinstance(model, Sequential) else [state]

    seen: dict[int, _Seen] = {}
    for start, block in _blocks(stack, apart=parallel):
        inside, stop = feed, start + len(block)
        # A layer draws the same, whatever block it is in.
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
    """What a layer did over time."""

    spikes: Any
    membranes: Any


def _blocks(stack, *, apart):
    """Parts to run one after the other, each with the index of its first layer: single layers
    without memory, and what lies from the first cell to the last (if `apart`: each cell)."""
    cells = [i for i, layer in enumerate(stack) if isinstance(layer, AbstractCell)]
    core = range(cells[0], cells[-1] + 1) if cells and not apart else range(0)
    for i, layer in enumerate(stack):
        if i not in core:
            yield i, (layer,)
        elif i == core.start:
            yield i, stack[core.start : core.stop]


def _memoryless(layer, feed, key, index):
    """A layer without memory, for all steps at once, or only once if all steps are the same."""

    def once(x, key):
        with named(index, layer, x):
            return call(layer, x, key)

    if feed.constant and (key is None or not _may_be_random(layer)):
        return feed._replace(x=once(feed.x, key))
    keys = None if key is None else jax.random.split(key, feed.num_steps)
    return Feed(jax.vmap(once)(feed.over_time(), keys), False, feed.num_steps)


def _may_be_random(layer):
    """Whether a layer could use its key: dropout, or a module that is not Equinox's own."""
    if not isinstance(layer, eqx.Module):
        return False
    modules = jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, eqx.nn.Dropout))
    known = type(layer).__module__.startswith("equinox.nn")
    return not known or any(isinstance(m, eqx.nn.Dropout) for m in modules)


def _scan(block, feed, states, keys, wanted, first):
    """Layers that hang together in time, step by step."""
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
    """One cell over all steps, by its associative scan if it has one."""
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
