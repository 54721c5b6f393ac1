"""Runs of a model over time, for one sample or a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import checks
from ..constraints import unwrap
from .arguments import Inputs, as_inputs, check_state, layer_indices, typed_key
from .base import AbstractCell
from .layers import call_layer
from .sequential import Sequential, naming_layer


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
    applied to all steps at once, as one large product instead of many small ones. To a constant
    input, the layers before the first cell are applied only once.

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
    - `parallel`: whether to compute layer by layer, each layer over all steps. Cells without reset
        (`reset="none"`, `LeakyIntegrator`) then use an associative scan. This suits long sequences
        on parallel hardware. The results are equal up to rounding. Default: False.

    **Returns:** a [`Run`][].

    **Raises:** `ValueError` for invalid arguments, and for a layer that does not accept its input.
    """
    inputs, indices = as_inputs(xs, num_steps, batch=False), _check(model, layers, parallel)
    out = _compiled(model, inputs, state, typed_key(key), indices, parallel)
    return _single_layer(out) if isinstance(layers, int | np.integer) else out


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
    [`eventsnn.train.fit`][] have the batch axis first. A loss function has to move their time axis
    to the front:

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

    **Raises:** `ValueError` as [`run`][].
    """
    inputs, indices = as_inputs(xs, num_steps, batch=True), _check(model, layers, parallel)
    samples = jax.tree.leaves(inputs.at_first_step())[0].shape[0]
    out = _compiled_batch(model, inputs, state, typed_key(key, samples), indices, parallel)
    return _single_layer(out) if isinstance(layers, int | np.integer) else out


def _check(model, layers, parallel):
    """Check the model and the static arguments. Return the indices of the layers to record."""
    expected = "a cell, or layers in a discrete.Sequential"
    checks.instance("model", model, AbstractCell, expected)
    checks.flag("parallel", parallel)
    return layer_indices(layers, len(model.layers) if isinstance(model, Sequential) else 1)


def _single_layer(out):
    return out._replace(spikes=out.spikes[0], membranes=out.membranes[0])


@eqx.filter_jit
def _compiled(model, inputs, state, key, indices, parallel):
    model = unwrap(model)
    if state is not None:
        state = check_state(state, model.init_state, inputs.at_first_step(), "model.init_state(x)")
    return _run_sample(model, inputs, state, key, indices, parallel)


@eqx.filter_jit
def _compiled_batch(model, inputs, state, key, indices, parallel):
    model, axis = unwrap(model), 0 if inputs.constant else 1
    x = inputs.at_first_step()
    if state is not None:
        init_state = jax.vmap(model.init_state)
        state = check_state(state, init_state, x, "jax.vmap(model.init_state)(x)")
    if key is not None and key.ndim == 0:
        key = jax.random.split(key, jax.tree.leaves(x)[0].shape[0])

    def one(x, state, key):
        return _run_sample(model, inputs._replace(x=x), state, key, indices, parallel)

    in_axes = (axis, None if state is None else 0, None if key is None else 0)
    return jax.vmap(one, in_axes=in_axes, out_axes=Run(1, 1, 0))(inputs.x, state, key)


def _run_sample(model, inputs, state, key, indices, parallel):
    """Run one sample and record several layers."""
    stack = model.layers if isinstance(model, Sequential) else (model,)
    if state is None:
        state = model.init_state(inputs.at_first_step())
    states = list(state) if isinstance(model, Sequential) else [state]

    recorded: dict[int, _Recorded] = {}
    for start, block in _blocks(stack, separate=parallel):
        stop = start + len(block)
        # The random numbers of a layer do not depend on how the layers are split into blocks.
        keys = None
        if key is not None:
            keys = [jax.random.fold_in(key, start + i) for i in range(len(block))]
        wanted = [i - start for i in indices if start <= i < stop]
        if isinstance(block[0], AbstractCell):
            run_block = _in_parallel if parallel else _scan
            first = start if isinstance(model, Sequential) else None
            found, states[start:stop] = run_block(
                block, inputs, states[start:stop], keys, wanted, first
            )
            inputs = Inputs(found[len(block) - 1].spikes, False, inputs.num_steps)
        else:
            inputs = _apply_stateless(block[0], inputs, keys and keys[0], start)
            found = {0: _Recorded(inputs.at_all_steps(), None)} if wanted else {}
        recorded |= {start + i: value for i, value in found.items()}

    spikes, membranes = zip(*(recorded[i] for i in indices), strict=True)
    return Run(spikes, membranes, tuple(states) if isinstance(model, Sequential) else states[0])


class _Recorded(NamedTuple):
    """Recorded outputs and membrane potentials of a layer over time."""

    spikes: Any
    membranes: Any


def _blocks(stack, *, separate):
    """Yield the blocks of layers to run one after the other, with the index of their first layer.

    The layers from the first cell to the last cell form one block. All other layers are blocks of
    one layer. With `separate`, every layer is its own block.
    """
    cells = [i for i, layer in enumerate(stack) if isinstance(layer, AbstractCell)]
    core = range(cells[0], cells[-1] + 1) if cells and not separate else range(0)
    for i, layer in enumerate(stack):
        if i not in core:
            yield i, (layer,)
        elif i == core.start:
            yield i, stack[core.start : core.stop]


def _apply_stateless(layer, inputs, key, index):
    """Apply a stateless layer to all steps at once, or only once if all steps are the same."""

    def once(x, key):
        with naming_layer(index, layer, x):
            return call_layer(layer, x, key)

    if inputs.constant and (key is None or not _may_be_random(layer)):
        return inputs._replace(x=once(inputs.x, key))
    keys = None if key is None else jax.random.split(key, inputs.num_steps)
    return Inputs(jax.vmap(once)(inputs.at_all_steps(), keys), False, inputs.num_steps)


def _may_be_random(layer):
    """Return whether a layer may use its key: dropout, or a module from outside `equinox.nn`."""
    if not isinstance(layer, eqx.Module):
        return False
    modules = jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, eqx.nn.Dropout))
    from_equinox = type(layer).__module__.startswith("equinox.nn")
    return not from_equinox or any(isinstance(m, eqx.nn.Dropout) for m in modules)


def _scan(block, inputs, states, keys, wanted, first):
    """Run a block of layers step by step."""
    cells = Sequential(block)
    recording = sorted({*wanted, len(block) - 1})
    nothing = [None] * len(block)

    def step(states, at):
        x, keys = at
        x = inputs.x if inputs.constant else x
        outs, states = cells.step(x, states, keys or nothing, first)
        return states, [_Recorded(outs[i], _membrane(states[i])) for i in recording]

    if keys is not None:
        keys = [jax.random.split(key, inputs.num_steps) for key in keys]
    xs = None if inputs.constant else inputs.x
    states, recorded = jax.lax.scan(step, tuple(states), (xs, keys), length=inputs.num_steps)
    return dict(zip(recording, recorded, strict=True)), states


def _in_parallel(block, inputs, states, keys, wanted, first):
    """Run one cell over all steps, by its associative scan if it has one."""
    xs = inputs.at_all_steps()
    with naming_layer(first, block[0], jax.tree.map(lambda x: x[0], xs)):
        found = block[0].in_parallel(xs, states[0], key=keys and keys[0])
    if found is None:
        return _scan(block, inputs, states, keys, wanted, first)
    spikes, states = found
    last = jax.tree.map(lambda x: x[-1], states)
    return {0: _Recorded(spikes, _membrane(states))}, (last,)


def _membrane(state):
    return getattr(state, "mem", None)
