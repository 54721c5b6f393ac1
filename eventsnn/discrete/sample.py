"""Run of one sample: its layers, one group after the other, over a number of steps."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .. import axes
from .arguments import Inputs, Options
from .base import AbstractCell
from .batchnorm import hold, mark
from .blocks import RunSteps
from .layers import call_layer
from .recording import state_at
from .sequential import Sequential, naming_layer
from .steps import Steps, silenced


class Recorded(NamedTuple):
    """Recorded output, membrane potential and further states of a layer over time."""

    spikes: Any
    membranes: Any
    states: dict[str, Any]


class Group(NamedTuple):
    """Consecutive layers that are run together."""

    first: int
    """Index of the first layer in the model."""
    layers: tuple[Any, ...]
    shown: int | None
    """Index of the first layer in error messages. With None they name no layer."""


def run_sample(
    model: AbstractCell,
    inputs: Inputs,
    state: PyTree,
    key: PRNGKeyArray | None,
    steps: Steps,
    options: Options,
) -> tuple[tuple[tuple[Recorded, ...], dict[str, Any]], PyTree]:
    """Run one sample over some of its steps.

    **Returns:** the records of the layers in `options.layers` and of the states in
    `options.record`, and the state after the last step.
    """
    in_sequence = isinstance(model, Sequential)
    stack, states = (model.layers, list(state)) if in_sequence else ((model,), [state])
    # The random numbers of a layer do not depend on how the layers are grouped.
    keys = [None if key is None else jax.random.fold_in(key, i) for i in range(len(stack))]
    inputs, found = steps.mask(inputs), {}
    for group in _groups(stack, separate=options.parallel, named=in_sequence):
        stop = group.first + len(group.layers)
        run_group = _stateless
        if isinstance(group.layers[0], AbstractCell):
            run_group = _in_parallel if options.parallel else _scan
        within = slice(group.first, stop)
        inputs, states[within], records = run_group(
            group, inputs, states[within], keys[within], steps, options
        )
        found |= records
    named = {name: x for record in found.values() for name, x in record.states.items()}
    records = tuple(found[i] for i in options.layers), named
    return records, tuple(states) if in_sequence else states[0]


def of_sample(
    model: AbstractCell,
    key: PRNGKeyArray | None,
    length: Int[Array, ""] | None,
    options: Options,
) -> RunSteps:
    """Make a function that runs some steps of one sample."""

    def run_steps(inputs, state, first):
        steps = Steps(first, inputs.num_steps, length)
        return run_sample(model, inputs, state, key, steps, options)

    return run_steps


def of_batch(
    model: AbstractCell,
    keys: PRNGKeyArray | None,
    lengths: Int[Array, " batch"] | None,
    options: Options,
) -> RunSteps:
    """Make a function that runs some steps of a batch, with the batch axis after the time axis."""

    def run_steps(inputs, state, first):
        def one(x, start, state, key, length):
            run_one = of_sample(model, key, length, options)
            return run_one(inputs._replace(x=x, start=start), state, first)

        in_axes = (0 if inputs.constant else 1, _axis(inputs.start), 0, _axis(keys), _axis(lengths))
        batched = jax.vmap(one, in_axes=in_axes, out_axes=(1, 0), axis_name=axes.SAMPLES)
        return batched(inputs.x, inputs.start, state, keys, lengths)

    return run_steps


def _axis(optional):
    return None if optional is None else 0


def _groups(stack: Sequence[Any], *, separate: bool, named: bool) -> Iterator[Group]:
    """Yield the groups of layers to run one after the other.

    The layers from the first cell to the last cell form one group. All other layers are groups of
    one layer. With `separate`, every layer is its own group.
    """
    cells = [i for i, layer in enumerate(stack) if isinstance(layer, AbstractCell)]
    core = range(cells[0], cells[-1] + 1) if cells and not separate else range(0)
    for i, layer in enumerate(stack):
        shown = i if named else None
        if i not in core:
            yield Group(i, (layer,), shown)
        elif i == core.start:
            yield Group(i, tuple(stack[core.start : core.stop]), shown)


def _stateless(group, inputs, states, keys, steps, options):
    """Apply a stateless layer to all steps at once, or only once if all steps are the same."""
    (layer,), (key,) = group.layers, keys

    def once(x, key):
        with naming_layer(group.shown, layer, x):
            return call_layer(layer, x, key)

    if inputs.constant and (key is None or not _may_be_random(layer)):
        out = inputs._replace(x=once(inputs.x, key))
    else:
        keys = None if key is None else steps.keys(key)
        out = Inputs(jax.vmap(once)(inputs.at_all_steps(), keys), False, inputs.num_steps)
    if group.first not in options.layers:
        return out, states, {}
    return out, states, {group.first: Recorded(steps.silence(out.at_all_steps()), None, {})}


def _may_be_random(layer):
    """Return whether a layer may use its key: dropout, or a module from outside `equinox.nn`."""
    if not isinstance(layer, eqx.Module):
        return False
    modules = jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, eqx.nn.Dropout))
    from_equinox = type(layer).__module__.startswith("equinox.nn")
    return not from_equinox or any(isinstance(m, eqx.nn.Dropout) for m in modules)


def _scan(group, inputs, states, keys, steps, options):
    """Run a group of layers step by step."""
    cells, indices = Sequential(group.layers), range(group.first, group.first + len(group.layers))
    wanted = {*options.layers, *(path.layer for path in options.record), indices[-1]}

    def step(before, at):
        x, step_keys, active = at
        x = inputs.x if inputs.constant else x
        outs, states = cells.step(x, mark(before, active), step_keys, group.shown)
        states = hold(active, states, before)
        return states, {
            i: _record(i, silenced(active, out), state, options)
            for i, out, state in zip(indices, outs, states, strict=True)
            if i in wanted
        }

    step_keys = [None if key is None else steps.keys(key) for key in keys]
    xs = None if inputs.constant else inputs.x, step_keys, steps.active
    states, records = jax.lax.scan(step, tuple(states), xs, length=inputs.num_steps)
    return Inputs(records[indices[-1]].spikes, False, inputs.num_steps), states, records


def _in_parallel(group, inputs, states, keys, steps, options):
    """Run one cell over all steps, by its associative scan if it has one."""
    xs = inputs.at_all_steps()
    key = None if keys[0] is None else jax.random.fold_in(keys[0], steps.first)
    with naming_layer(group.shown, group.layers[0], jax.tree.map(lambda x: x[0], xs)):
        found = group.layers[0].in_parallel(xs, states[0], key=key)
    if found is None:
        return _scan(group, inputs, states, keys, steps, options)
    spikes, states = steps.silence(found[0]), steps.hold(found[1], states[0])
    last = jax.tree.map(lambda x: x[-1], states)
    records = {group.first: _record(group.first, spikes, states, options)}
    return Inputs(spikes, False, inputs.num_steps), (last,), records


def _record(index, spikes, state, options):
    """Record of a layer: its output, its membrane potential, and the states named by the user."""
    named = {path.name: state_at(state, path) for path in options.record if path.layer == index}
    return Recorded(spikes, getattr(state, "mem", None), named)
