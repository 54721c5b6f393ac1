"""One layer of eventsnn: times of a call and of a gradient, and those of the C++ yardstick."""

import ctypes
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn

from ..workers import files

TAU_MEM, TAU_SYN, T_MAX, MAX_SPIKES = 20.0, 5.0, 40.0, 12


def layer_of(weights: np.ndarray, delays: np.ndarray | None = None) -> esn.EventLinear:
    """Build the layer; spikes after the first `MAX_SPIKES` are left out, as in the yardstick."""
    neuron = esn.LIF(TAU_MEM, TAU_SYN)
    options: dict[str, Any] = {"t_max": T_MAX, "max_spikes": MAX_SPIKES, "truncate": True}
    return esn.EventLinear(neuron, jnp.asarray(weights, jnp.float32), delays=delays, **options)


Model = esn.EventLinear | esn.EventNetwork


@eqx.filter_jit
def forward(layer: Model, in_times: jax.Array) -> jax.Array:
    return layer.spikes(in_times, MAX_SPIKES, throw=False)


@eqx.filter_jit
def gradient(layer: Model, in_times: jax.Array) -> Any:
    """Value and gradient of the sum of all spike times with respect to weights and input times."""

    def total(trained: Any) -> jax.Array:
        weights, in_times = trained
        of_weights = eqx.tree_at(lambda layer: layer.weights, layer, weights)
        times = of_weights.spikes(in_times, MAX_SPIKES, throw=False)
        return jnp.sum(jnp.where(jnp.isfinite(times), times, 0.0))

    return jax.value_and_grad(total)((layer.weights, in_times))


def milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return 1e3 * (time.perf_counter() - start)


class Commands:
    """Commands `yardstick` and `measure`, on one core."""

    def __init__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    def yardstick(self, problem: str, library: str, rounds: int) -> dict[str, Any]:
        """Times of the layer and of the C++ code, in turns, and their largest difference in ms."""
        p = files.read(problem)
        layer, in_times = layer_of(p["weights"]), jnp.asarray(p["in_times"], jnp.float32)
        cpp = loaded(library, p["in_times"], p["weights"])
        spikes, expected = np.asarray(forward(layer, in_times)), cpp()
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(rounds):
            times["ours"].append(milliseconds(lambda: forward(layer, in_times)))
            times["peer"].append(milliseconds(cpp))
        both = np.isfinite(spikes) & np.isfinite(expected)
        return {
            "ours_forward_ms": median(times["ours"]),
            "peer_forward_ms": median(times["peer"]),
            "spikes": int(np.isfinite(expected).sum()),
            "unequal_spikes": int((np.isfinite(spikes) != np.isfinite(expected)).sum()),
            "largest_difference_ms": float(np.abs(spikes[both] - expected[both]).max(initial=0.0)),
        }

    def measure(self, problem: str, rounds: int) -> dict[str, float]:
        """Medians of the times of a call and of a gradient."""
        p = files.read(problem)
        layer, in_times = layer_of(p["weights"]), jnp.asarray(p["in_times"], jnp.float32)
        return in_turns({"layer": layer}, in_times, rounds)["layer"]

    def delays(self, problem: str, rounds: int) -> dict[str, dict[str, float]]:
        """Times of the layer with each kind of delays, and of the event loop."""
        p = files.read(problem)
        in_times = jnp.asarray(p["in_times"], jnp.float32)
        given = {"none": None, "axonal": p["delays"][:, 0], "synaptic": p["delays"]}
        models: dict[str, Model] = {k: layer_of(p["weights"], d) for k, d in given.items()}
        # The event loop simulates all spikes of a sample, also those that are left out.
        loop = layer_of(p["weights"], p["delays"]).as_network(50 * p["weights"].shape[1])
        models["synaptic, event loop"] = loop
        return in_turns(models, in_times, rounds)


def in_turns(
    models: dict[str, Model], in_times: jax.Array, rounds: int
) -> dict[str, dict[str, float]]:
    """Medians of the times of a call and of a gradient of each model, measured in turns."""
    calls = {"forward_ms": forward, "gradient_ms": gradient}
    times: dict[tuple[str, str], list[float]] = {(m, c): [] for m in models for c in calls}
    for number in range(rounds + 1):
        for name, kind in times:
            took = milliseconds(lambda fn=calls[kind], layer=models[name]: fn(layer, in_times))
            if number > 0:  # the first call compiles
                times[name, kind].append(took)
    found = {name: {kind: median(times[name, kind]) for kind in calls} for name in models}
    for name, layer in models.items():
        spikes = jnp.isfinite(forward(layer, in_times)).sum() / len(in_times)
        found[name]["output_spikes"] = float(spikes)
    return found


def loaded(library: str, in_times: np.ndarray, weights: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that calls the compiled C++ code on these arrays."""
    simulate = ctypes.CDLL(library).simulate
    times, matrix = (np.ascontiguousarray(x, np.float32) for x in (in_times, weights))
    sizes, n = in_times.shape, weights.shape[1]

    def call() -> np.ndarray:
        out = np.empty((sizes[0], n, MAX_SPIKES), np.float32)
        arrays = [x.ctypes.data_as(ctypes.c_void_p) for x in (times, matrix, out)]
        constants = [ctypes.c_float(x) for x in (TAU_MEM, TAU_SYN, T_MAX)]
        simulate(*arrays, *sizes, n, MAX_SPIKES, *constants)
        return out

    return call
