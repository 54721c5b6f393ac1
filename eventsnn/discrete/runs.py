"""Runs of a model over time, for one sample or a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree

from .. import checks
from ..constraints import unwrap
from .arguments import Options, as_inputs, check_state, layer_indices, typed_key
from .base import AbstractCell
from .blocks import run_in_blocks
from .recording import state_paths
from .sample import of_batch, of_sample
from .sequential import Sequential


class Run(NamedTuple):
    """Result of [`run`][]. If `layers` is a sequence, `spikes` and `membranes` are tuples with one
    entry per layer."""

    spikes: Any
    """Output of the layer at each step, `(T, *neurons)`. For a spiking cell, its spikes."""
    membranes: Any
    """Membrane potential of the layer after each step, `(T, *neurons)`. None for a layer without
    membrane potential."""
    state: PyTree
    """State after the last step, from which another run can continue."""
    recorded: dict[str, Any]
    """States named by the argument `record`, after each step, with the time axis first."""


def run(
    model: AbstractCell,
    xs: PyTree[Float[Array, " steps *features"] | Float[Array, "*features"]],
    *,
    num_steps: int | None = None,
    layers: int | Sequence[int] = -1,
    state: PyTree = None,
    key: PRNGKeyArray | None = None,
    parallel: bool = False,
    checkpoint_every: int | None = None,
    truncate_every: int | None = None,
    lengths: Int[ArrayLike, ""] | None = None,
    record: str | Sequence[str] = (),
) -> Run:
    r"""Run a model on one sample, step by step, in one `lax.scan`.

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
    - `parallel`: whether to compute layer by layer, each layer over all steps. `LeakyIntegrator`,
        `LeakyParallel`, `DeltaLeaky`, `AssociativeLeaky` and delays, and `Leaky`, `Synaptic`,
        `Alpha` and `Lapicque` with `reset="none"`, then compute all steps at once; other cells, and
        quantised ones, run step by step. This suits long sequences
        on parallel hardware. The results are equal up to rounding. Default: False.
    - `checkpoint_every`: number of steps per block of rematerialisation (Chen et al., 2016,
        arXiv:1604.06174). The backward pass then stores only the state before each block, and
        computes the steps of a block again when it needs them. Values and gradients are equal up to
        rounding, but a stochastic surrogate draws other numbers with `parallel`. The memory is that
        of one block, one state per block, and the recorded arrays. It is small for about $\sqrt T$
        steps per block. Default: None, the backward pass stores all steps.
    - `truncate_every`: number of steps per segment of truncated backpropagation through time
        (Williams & Peng, 1990, Neural Computation 2, 490-501). The state at the end of a segment
        continues in the next one, but is constant under differentiation: a loss has no gradient
        through earlier segments. Without `checkpoint_every`, the backward pass computes one segment
        at a time again; with it, blocks of the segments. Default: None, the gradient of all steps.
    - `lengths`: number of steps of the sample, from 1 to $T$. The steps after its end change
        nothing: outputs are 0, membrane potentials and states keep their values, and the input has
        no influence and no gradient, even if it is NaN. The final state is that of the end of the
        sample; that of [`eventsnn.discrete.BatchNorm`][] in training is that of the batch. The
        losses of [`eventsnn.losses`][] have the same argument. Default: None, all steps.
    - `record`: names of further states to record, as paths in the state of the model: `"1.syn"` is
        the field `syn` of layer 1 of a `Sequential`, `"syn"` that of a single cell, and `"1"` the
        whole state of layer 1. Default: none.

    **Returns:** a [`Run`][].

    **Raises:** `ValueError` for invalid arguments, and for a layer that does not accept its input.
    """
    inputs = as_inputs(xs, num_steps, batch=False)
    options = _options(model, layers, record, parallel, checkpoint_every, truncate_every)
    lengths = checks.lengths(lengths, (), inputs.num_steps)
    out = _compiled(model, inputs, state, typed_key(key), lengths, options)
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
    checkpoint_every: int | None = None,
    truncate_every: int | None = None,
    lengths: Int[ArrayLike, " batch"] | None = None,
    record: str | Sequence[str] = (),
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
    - `lengths`: number of steps of each sample, of shape `(batch,)`. Default: None, all steps.

    **Returns:** a [`Run`][] with spikes and membranes of shape `(T, batch, *neurons)`, and a state
    with the batch as its first axis.

    **Raises:** `ValueError` as [`run`][].
    """
    inputs = as_inputs(xs, num_steps, batch=True)
    options = _options(model, layers, record, parallel, checkpoint_every, truncate_every)
    samples = jax.tree.leaves(inputs.at_first_step())[0].shape[0]
    lengths = checks.lengths(lengths, (samples,), inputs.num_steps)
    out = _compiled_batch(model, inputs, state, typed_key(key, samples), lengths, options)
    return _single_layer(out) if isinstance(layers, int | np.integer) else out


def _options(model, layers, record, parallel, checkpoint_every, truncate_every):
    """Check the model and the static arguments of a run."""
    expected = "a cell, or layers in a discrete.Sequential"
    checks.instance("model", model, AbstractCell, expected)
    checks.flag("parallel", parallel)
    every = (
        checks.count_or_none("checkpoint_every", checkpoint_every),
        checks.count_or_none("truncate_every", truncate_every),
    )
    found = layer_indices(layers, len(model.layers) if isinstance(model, Sequential) else 1)
    return Options(found, state_paths(record, model), bool(parallel), *every)


def _single_layer(out):
    return out._replace(spikes=out.spikes[0], membranes=out.membranes[0])


@eqx.filter_jit
def _compiled(model, inputs, state, key, length, options):
    model, x = unwrap(model), inputs.at_first_step()
    state = _start(state, model.init_state, x, "model.init_state(x)")
    inputs = inputs if length is None else inputs._replace(start=x)
    run_steps = of_sample(model, key, length, options)
    return _as_run(*run_in_blocks(run_steps, inputs, state, options))


@eqx.filter_jit
def _compiled_batch(model, inputs, state, key, lengths, options):
    model, x = unwrap(model), inputs.at_first_step()
    state = _start(state, jax.vmap(model.init_state), x, "jax.vmap(model.init_state)(x)")
    if key is not None and key.ndim == 0:
        key = jax.random.split(key, jax.tree.leaves(x)[0].shape[0])
    inputs = inputs if lengths is None else inputs._replace(start=x)
    run_steps = of_batch(model, key, lengths, options)
    return _as_run(*run_in_blocks(run_steps, inputs, state, options))


def _start(state, init_state, x, name):
    """Initial state of a run: the given one, after a check, or that of the model."""
    return init_state(x) if state is None else check_state(state, init_state, x, name)


def _as_run(records, state):
    layers, named = records
    spikes, membranes, _ = zip(*layers, strict=True)
    return Run(spikes, membranes, state, named)
