"""Spikes and synaptic operations of the discrete-time mode."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from ..constraints import unwrap
from ..discrete import (
    AbstractCell,
    AbstractSpikingCell,
    BatchNorm,
    Delay,
    Frozen,
    MaskedLinear,
    OneToOne,
    Sequential,
    run_batch,
    trainable,
)
from .records import LayerOperations
from .walk import type_of

# Layers whose parameters are not synapses.
_WITHOUT_SYNAPSES = eqx.nn.LayerNorm | eqx.nn.GroupNorm | eqx.nn.RMSNorm | BatchNorm | Delay
_SYNAPSES = eqx.nn.Linear | eqx.nn.Conv | eqx.nn.ConvTranspose | MaskedLinear | OneToOne


class _Synapses(NamedTuple):
    """Synapses of a layer, and their inputs."""

    layer: Any
    inputs: Num[np.ndarray, "steps samples ..."]
    steps: int
    """Number of time steps in which they are used; `inputs` may have one less."""


def discrete_operations(
    model: AbstractCell, xs: Array, **options: Any
) -> tuple[tuple[LayerOperations, ...], float]:
    """Operations of each layer, and the fraction of the samples with an output that is not finite.

    `options` are those of `run_batch`.
    """
    named = dict(_flat(model, ""))
    for layer in named.values():
        _check(layer)
    stack = Sequential(list(named.values()))
    run = run_batch(stack, xs, layers=range(len(named)), **options)
    outputs = [np.asarray(x) for x in run.spikes]
    steps = options.get("num_steps")
    first = np.asarray(xs) if steps is None else np.broadcast_to(xs, (steps, *xs.shape))
    good = np.logical_and.reduce([_finite(x) for x in outputs])
    given = (first, *outputs)
    rows = map(_layer, named, unwrap(stack.layers), given, outputs, [good] * len(outputs))
    return tuple(row for row in rows if row is not None), float(np.mean(~good))


def _flat(model: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the layers of sequences within sequences, with their names."""
    if isinstance(model, Sequential | eqx.nn.Sequential):
        for i, layer in enumerate(model.layers):
            yield from _flat(layer, f"{name}.layers[{i}]" if name else f"layers[{i}]")
    else:
        yield name or "layer", model


def _check(layer: Any) -> None:
    """Raise for a layer whose synapses are not known."""
    known = isinstance(layer, _SYNAPSES)
    if isinstance(layer, Frozen):
        _check(layer.layer)
        known = True
    feedback = getattr(layer, "feedback", None) if isinstance(layer, AbstractCell) else None
    if feedback is not None:
        _check(feedback)
    if not known and (_weights(layer, feedback) or not (feedback is None or _is_linear(feedback))):
        known = "Linear, Conv, ConvTranspose, MaskedLinear and OneToOne, in layers or as feedback"
        raise ValueError(f"model must have weights only in {known}, got {type_of(layer)}.")


def _weights(layer: Any, feedback: Any) -> bool:
    """Return whether a layer has weights, apart from its feedback."""
    if isinstance(layer, _WITHOUT_SYNAPSES):
        return False
    arrays = eqx.filter(layer, eqx.is_inexact_array)
    if isinstance(layer, AbstractCell) and jax.tree.leaves(arrays):
        arrays = eqx.filter(layer, trainable(layer))
    own = {id(x) for x in jax.tree.leaves(feedback)}
    return any(id(x) not in own for x in jax.tree.leaves(arrays))


def _is_linear(layer: Any) -> bool:
    return isinstance(layer, _SYNAPSES) or (isinstance(layer, Frozen) and _is_linear(layer.layer))


def _layer(
    name: str,
    layer: Any,
    given: Num[np.ndarray, "steps samples ..."],
    out: Num[np.ndarray, "steps samples ..."],
    good: Bool[np.ndarray, " samples"],
) -> LayerOperations | None:
    """Operations of one layer; None for a layer without neurons and synapses."""
    fires, feedback = isinstance(layer, AbstractSpikingCell), getattr(layer, "feedback", None)
    synapses = None
    if _is_linear(layer):
        synapses = _Synapses(layer, given[:, good], len(out))
    elif isinstance(layer, AbstractCell) and feedback is not None:
        synapses = _Synapses(feedback, out[:-1, good], len(out))
    if synapses is None and not fires:
        return None
    active = (out[:, good] != 0).reshape(len(out), int(good.sum()), -1)
    counts = np.zeros(int(good.sum())) if synapses is None else _effective(synapses)
    binary = synapses is None or bool(np.isin(synapses.inputs, (-1, 0, 1)).all())
    mean, spikes = _mean(counts), active.sum(axis=(0, 2)) if fires else np.zeros(len(counts), int)
    return LayerOperations(
        name=name,
        type=type_of(layer),
        n_neurons=active.shape[2] if fires else 0,
        spikes=_mean(spikes),
        sparsity=1 - _mean(active) if fires else math.nan,
        accumulates=mean if binary else 0.0,
        multiplies=0.0 if binary else mean,
        dense=0.0 if synapses is None else _dense(synapses),
        spike_counts=spikes,
        operation_counts=counts,
    )


def _effective(synapses: _Synapses) -> Float[np.ndarray, " samples"]:
    """Number of pairs of an existing synapse and a step in which its input is not 0."""
    if not synapses.inputs.size:
        return np.zeros(synapses.inputs.shape[1])
    sums = _summed(_ones(synapses.layer), jnp.asarray(synapses.inputs != 0, jnp.float32))
    return np.sum(np.asarray(sums, float), axis=0)


def _dense(synapses: _Synapses) -> float:
    """Number of synapses, times the number of steps."""
    one = jnp.ones((1, 1, *synapses.inputs.shape[2:]), jnp.float32)
    return float(_summed(_ones(synapses.layer), one)[0, 0]) * synapses.steps


@eqx.filter_jit
def _summed(layer: Any, x: Array) -> Array:
    """Sum of the outputs of a layer, for each step and sample."""
    return jax.vmap(jax.vmap(lambda x: jnp.sum(layer(x))))(x)


def _ones(layer: Any) -> Any:
    """Return a layer with all weights 1, without bias: its summed output counts synapses.

    The weights are in float32: half precision cannot represent larger numbers of synapses.
    """
    if isinstance(layer, Frozen):
        return _ones(layer.layer)
    name = "v" if isinstance(layer, OneToOne) else "weight"
    layer = eqx.tree_at(
        lambda x: getattr(x, name), layer, replace_fn=lambda w: jnp.ones(w.shape, jnp.float32)
    )
    if getattr(layer, "bias", None) is None:
        return layer
    return eqx.tree_at(
        lambda x: x.bias, layer, replace_fn=lambda b: jnp.zeros(b.shape, jnp.float32)
    )


def _finite(x: Num[np.ndarray, "steps samples ..."]) -> Bool[np.ndarray, " samples"]:
    return np.asarray(np.isfinite(x).reshape(*x.shape[:2], -1).all(axis=(0, 2)))


def _mean(x: np.ndarray) -> float:
    return float(np.mean(x)) if x.size else math.nan
