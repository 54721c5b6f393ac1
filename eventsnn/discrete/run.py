"""A model over time."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..checks import count
from .base import AbstractCell, call
from .sequential import Sequential


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
    xs: Float[Array, "steps *features"] | Float[Array, "*features"],
    *,
    num_steps: int | None = None,
    layers: int | Sequence[int] = -1,
    state: PyTree = None,
    key: PRNGKeyArray | None = None,
    parallel: bool = False,
) -> Run:
    """Runs one sample through a model, step by step, in one `lax.scan`.

    Layers before the first cell and after the last have no part in the recurrence: they see all
    steps at once (one large product instead of many small ones), and an input that is the same at
    every step passes the first of them only once.

    For a batch see [`run_batch`][].

    **Arguments:**

    - `model`: a cell, a [`eventsnn.discrete.Sequential`][], or your own
        [`eventsnn.discrete.AbstractCell`][].
    - `xs`: the input of each step, time first; with `num_steps` the input of every step.
    - `num_steps`: how many steps to show a constant input.
    - `layers`: which layers of a `Sequential` to record, by index, one or several. Default: the
        last.
    - `state`: where to start, as an earlier run or `model.init_state(x)` gave it. Default: the
        latter.
    - `key`: for dropout and stochastic surrogates, drawn anew at each step.
    - `parallel`: go layer by layer instead, each over all steps, and run cells without reset
        (`reset="none"`, `LeakyIntegrator`) by an associative scan. The same numbers up to
        rounding; for long sequences on parallel hardware.

    **Raises:** `ValueError` for arguments that do not fit.
    """
    stack = model.layers if isinstance(model, Sequential) else (model,)
    asked = _indices(layers, len(stack))
    feed = _feed(xs, num_steps)
    if state is None:
        state = model.init_state(feed.x if feed.constant else feed.x[0])
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
            found, states[start:stop] = over_time(block, inside, states[start:stop], keys, wanted)
            feed = _Feed(found[len(block) - 1].spikes, False, feed.num_steps)
        else:
            feed = _memoryless(block[0], inside, keys and keys[0])
            found = {0: _Seen(feed.over_time(), None)} if wanted else {}
        seen |= {start + i: value for i, value in found.items()}

    spikes, membranes = zip(*(seen[i] for i in asked), strict=True)
    if _is_one(layers):
        spikes, membranes = spikes[0], membranes[0]
    return Run(spikes, membranes, tuple(states) if isinstance(model, Sequential) else states[0])


class _Seen(NamedTuple):
    """What a layer did over time."""

    spikes: Any
    membranes: Any


class _Feed(NamedTuple):
    """What enters a layer: one value a step, or one for all steps."""

    x: Any
    constant: bool
    num_steps: int

    def over_time(self) -> Any:
        """With a time axis."""
        if not self.constant:
            return self.x
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_steps, *x.shape)), self.x)


def _feed(xs, num_steps):
    xs = jnp.asarray(xs)
    if num_steps is not None:
        return _Feed(xs, True, count("num_steps", num_steps))
    if xs.ndim == 0 or len(xs) == 0:
        raise ValueError(
            "xs must have the time as its first axis, with at least one step (or give num_steps "
            f"for a constant input), got shape {xs.shape}."
        )
    return _Feed(xs, False, len(xs))


def _indices(layers, n):
    """The layers asked for, counted from the first."""
    try:
        asked = [operator.index(i) for i in ([layers] if _is_one(layers) else layers)]
    except TypeError:
        asked = []
    if not asked or not all(-n <= i < n for i in asked):
        raise ValueError(f"layers must be indices of the {n} layers, got {layers!r}.")
    return [i % n for i in asked]


def _is_one(layers):
    return isinstance(layers, int | np.integer)


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


def _memoryless(layer, feed, key):
    """A layer without memory, for all steps at once, or only once if all steps are the same."""
    if feed.constant and (key is None or not _may_be_random(layer)):
        return feed._replace(x=call(layer, feed.x, key))
    if key is None:
        x = jax.vmap(lambda x: call(layer, x, None))(feed.over_time())
    else:
        x = jax.vmap(lambda x, key: call(layer, x, key))(
            feed.over_time(), jax.random.split(key, feed.num_steps)
        )
    return _Feed(x, False, feed.num_steps)


def _may_be_random(layer):
    """Whether a layer could use its key: dropout, or a module that is not Equinox's own."""
    if not isinstance(layer, eqx.Module):
        return False
    modules = jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, eqx.nn.Dropout))
    known = type(layer).__module__.startswith("equinox.nn")
    return not known or any(isinstance(m, eqx.nn.Dropout) for m in modules)


def _scan(block, feed, states, keys, wanted):
    """Layers that hang together in time, step by step."""
    cells = Sequential(block)
    recorded = sorted({*wanted, len(block) - 1})
    nothing = [None] * len(block)

    def step(states, at):
        x, keys = at
        outs, states = cells.step(feed.x if feed.constant else x, states, keys or nothing)
        return states, [_Seen(outs[i], _membrane(states[i])) for i in recorded]

    if keys is not None:
        keys = [jax.random.split(key, feed.num_steps) for key in keys]
    xs = None if feed.constant else feed.x
    states, seen = jax.lax.scan(step, tuple(states), (xs, keys), length=feed.num_steps)
    return dict(zip(recorded, seen, strict=True)), states


def _all_at_once(block, feed, states, keys, wanted):
    """One cell over all steps, by its associative scan if it has one."""
    xs = feed.over_time()
    found = block[0].in_parallel(xs, states[0], key=keys and keys[0])
    if found is None:
        return _scan(block, feed, states, keys, wanted)
    spikes, over_time = found
    last = jax.tree.map(lambda x: x[-1], over_time)
    return {0: _Seen(spikes, _membrane(over_time))}, (last,)


def _membrane(state):
    return getattr(state, "mem", None)


def run_batch(
    model: AbstractCell,
    xs: Float[Array, "steps batch *features"] | Float[Array, "batch *features"],
    *,
    num_steps: int | None = None,
    layers: int | Sequence[int] = -1,
    state: PyTree = None,
    key: PRNGKeyArray | None = None,
    parallel: bool = False,
) -> Run:
    """[`run`][] for a batch, with the axes in the order of the field: time, batch, the rest.

    **Arguments:** as for [`run`][], but

    - `xs`: `(T, batch, *features)`; with `num_steps` `(batch, *features)`.
    - `state`: with the batch as its first axis.
    - `key`: one key, of which each sample gets its own, or a key a sample, `(batch,)`.

    **Returns:** a [`Run`][] with spikes and membranes of shape `(T, batch, *neurons)`, and a state
    with the batch as its first axis.
    """
    axis = 1 if num_steps is None else 0
    if jnp.ndim(xs) <= axis:
        raise ValueError(
            f"xs must have shape {'(T, batch, ...)' if axis else '(batch, ...)'}, got shape "
            f"{jnp.shape(xs)}."
        )
    if key is not None and not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)  # of the older kind, plain integers
    keys = key
    if key is not None and key.ndim == 0:
        keys = jax.random.split(key, jnp.shape(xs)[axis])

    def one(x, state, key):
        return run(
            model, x, num_steps=num_steps, layers=layers, state=state, key=key, parallel=parallel
        )

    in_axes = (axis, None if state is None else 0, None if key is None else 0)
    return jax.vmap(one, in_axes=in_axes, out_axes=Run(1, 1, 0))(xs, state, keys)
