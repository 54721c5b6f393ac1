"""One gradient step of a network of a given size.

The network is a recurrent QIF network in which every neuron is driven over threshold and fires
indefinitely; the simulation ends when each sample has reached the given number of events. The step
is the value and gradient, with respect to weights and biases, of the sum of all event times. One
process measures one size, so that the peak memory is that of this size.
"""

import time
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn

from ..workers.protocol import memory

# Time constants in ms. An isolated neuron fires about every 20 ms.
TAU_MEM, TAU_SYN, T_MAX = 20.0, 5.0, 1e4
BIAS = (5.0, 10.0)
WEIGHT = 5.0


def build(n: int, events: int, dtype: str) -> esn.EventNetwork:
    """Build `n` neurons with one input, all-to-all weights ~ 1/sqrt(n), and no self-connections."""
    rng = np.random.default_rng(n)
    mask = np.concatenate([~np.eye(n, dtype=bool), np.ones((1, n), bool)])
    weights = mask * rng.normal(0.0, WEIGHT / np.sqrt(n), mask.shape)
    bias = rng.uniform(*BIAS, n)
    return esn.EventNetwork(
        neuron=esn.QIF(tau_mem=TAU_MEM, tau_syn=TAU_SYN, bias=jnp.asarray(bias, dtype)),
        weights=jnp.asarray(weights, dtype),
        mask=mask,
        outputs=(0,),
        t_max=T_MAX,
        max_events=events,
    )


def loss(trained: Any, fixed: Any, in_times: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum of all event times of the batch, and the counts of the loop."""
    solution = eqx.combine(trained, fixed).simulate(in_times, throw=False)
    return jnp.sum(jnp.where(jnp.isfinite(solution.times), solution.times, 0.0)), solution.stats


class Commands:
    @staticmethod
    def measure(n: int, events: int, dtype: str, batch: int, rounds: int) -> dict[str, Any]:
        """Compile, and measure the median of `rounds` steps; temporary memory is XLA's plan."""
        jax.config.update("jax_enable_x64", dtype == "float64")
        net = build(n, events, dtype)
        trained, fixed = eqx.partition(net, esn.trainable(net, "weights", "bias"))
        in_times = jnp.asarray(np.random.default_rng(0).uniform(0.0, 1.0, (batch, 1, 1)), dtype)

        start = time.perf_counter()
        step = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
        compiled = step.lower(trained, fixed, in_times).compile()
        compile_seconds = time.perf_counter() - start
        seconds = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            (_, stats), grads = jax.block_until_ready(compiled(trained, fixed, in_times))
            seconds.append(time.perf_counter() - start)
        return {
            "ms": 1e3 * median(seconds[1:]),
            "compile_seconds": compile_seconds,
            "events_had": float(jnp.mean(stats["events"])),
            "loop_steps": float(jnp.mean(stats["steps"])),
            "gradient_finite": bool(all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads))),
            "temporary_mb": compiled.compiled.memory_analysis().temp_size_in_bytes / 1e6,
            "weights_mb": net.matrix.nbytes / 1e6,
            **memory(),
        }
