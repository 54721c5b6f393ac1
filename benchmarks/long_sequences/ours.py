"""Gradient of the spike-count loss of a network 64-100-10 over a long sequence."""

import time
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from eventsnn import discrete, losses


def build(cell: str) -> discrete.Sequential:
    """Build the network, with recurrent hidden neurons if `cell` is "rleaky"."""
    key_in, key_back, key_out = jax.random.split(jax.random.key(0), 3)
    feedback = eqx.nn.Linear(100, 100, key=key_back)
    return discrete.Sequential(
        [
            eqx.nn.Linear(64, 100, key=key_in),
            discrete.RLeaky(0.9, feedback) if cell == "rleaky" else discrete.Leaky(0.9),
            eqx.nn.Linear(100, 10, key=key_out),
            discrete.Leaky(0.9),
        ]
    )


class Commands:
    @staticmethod
    def measure(
        cell: str, every: list[int], num_steps: int, batch: int, rounds: int
    ) -> dict[str, Any]:
        """Measure the run that stores all steps, and the run in blocks of each size."""
        arrays, other = eqx.partition(build(cell), eqx.is_inexact_array)
        xs = jax.random.normal(jax.random.key(1), (num_steps, batch, 64))
        labels = jnp.arange(batch) % 10

        def loss(arrays: Any, xs: jax.Array, size: int | None) -> jax.Array:
            model = eqx.combine(arrays, other)
            spikes = discrete.run_batch(model, xs, checkpoint_every=size).spikes
            return losses.ce_count(spikes, labels)

        gradient, compiled, rows = jax.jit(jax.grad(loss), static_argnums=2), [], []
        for size in (None, *every):
            start = time.perf_counter()
            compiled.append(gradient.lower(arrays, xs, size).compile())
            seconds = time.perf_counter() - start
            memory = compiled[-1].memory_analysis().temp_size_in_bytes / 1e6
            rows.append({"every": size, "temporary_mb": memory, "compile_seconds": seconds})
        times: list[list[float]] = [[] for _ in rows]
        for _ in range(rounds + 1):
            for program, of_program in zip(compiled, times, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(program(arrays, xs))
                of_program.append(1e3 * (time.perf_counter() - start))
        for row, of_program in zip(rows, times, strict=True):
            row["ms"] = median(of_program[1:])
        return {"rows": rows}
