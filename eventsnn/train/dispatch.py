"""Many gradient steps in one program, with a record of each step."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .evidence import output_gradients
from .step import batch_size

# Approximate number of entries per array that are checked first for a non-zero value.
_SAMPLE = 16


class State(NamedTuple):
    """State of a run after `done` steps."""

    arrays: PyTree
    """Arrays of the model and of the optimiser state."""
    parameter_sum: PyTree
    """Sum of the trained parameters over the steps to be averaged, or None without average."""
    done: int


class Records(NamedTuple):
    """Records of one dispatch, one row per step. The first `n_steps` rows are valid."""

    losses: Float[Array, " steps"]
    monitored: Float[Array, " steps"] | None
    zero_gradients: Bool[Array, " steps"]
    """True if all gradients are 0."""
    outputs_with_gradient: Bool[Array, "steps outputs"]
    """True for each output of an event network with a gradient. No columns without a network."""
    gradient_norms: Float[Array, " steps"] | None
    learning_rates: Float[Array, " steps"] | None
    """Learning rates, if the state of the optimiser contains them."""
    n_steps: Int[Array, ""]
    """Number of steps that were run."""
    finite: Bool[Array, ""]
    """True if all losses, and the parameters after the last step, are finite."""


def many_steps(
    step: Callable,
    monitor: Callable | None,
    static: PyTree,
    trained_parameters: Callable,
    initially_finite: list[bool],
    first_averaged: int,
    records_norms: bool,
) -> Callable:
    """Make a function that runs `count` steps over stacked batches in one program.

    `done` is the number of steps completed before. From the step `first_averaged` on, counted from
    0, the function adds the trained parameters after each step to a sum. It stops after a step
    whose loss is not finite. The parameters are checked only after the last step, since reading
    them at each step takes up to a tenth of the time of a step. A parameter whose entry in
    `initially_finite` is false may be infinite, but not NaN. `count` and `done` are traced
    arguments, so that all dispatches use the same program.
    """

    def run(arrays, parameter_sum, batches, key, done, count):
        def unfinished(carry):
            records = carry[-1]
            return (records.n_steps < count) & records.finite

        def one_step(carry):
            arrays, parameter_sum, records = carry
            i = records.n_steps
            batch = jax.tree.map(lambda x: x[i], batches)
            now = step_key(key, done + i)
            model, opt_state = eqx.combine(arrays, static)
            value = None if monitor is None else monitor(model, batch, now)
            model, opt_state, loss, grads = step(model, opt_state, batch, now)
            arrays = eqx.filter((model, opt_state), eqx.is_array)
            if parameter_sum is not None:
                averaged = done + i >= first_averaged
                parameter_sum = jax.tree.map(
                    lambda total, x: jnp.where(averaged, total + x, total),
                    parameter_sum,
                    trained_parameters(arrays),
                )
            norm = _norm(grads, loss.dtype) if records_norms else None
            rate = _learning_rate(opt_state)
            return arrays, parameter_sum, _add(records, loss, value, grads, norm, rate)

        has_rate = _learning_rate(eqx.combine(arrays, static)[1]) is not None
        optional = monitor is not None, records_norms, has_rate
        start = _no_records(batch_size(batches), trained_parameters(arrays), *optional)
        arrays, parameter_sum, records = jax.lax.while_loop(
            unfinished, one_step, (arrays, parameter_sum, start)
        )
        finite = records.finite & _all_finite(trained_parameters(arrays), initially_finite)
        return arrays, parameter_sum, records._replace(finite=finite)

    return run


def step_key(key, step):
    """Random key of a step, counted from 0. None without a key."""
    return None if key is None else jax.random.fold_in(key, step)


def _norm(grads, dtype):
    """Norm of all gradients together."""
    return optax.tree.norm(jax.tree.map(lambda x: x.astype(dtype), grads))


def _learning_rate(opt_state):
    """Learning rate of `optax.inject_hyperparams`; None unless the state contains just one."""
    found = optax.tree.get_all_with_path(opt_state, "learning_rate", filtering=_is_scalar)
    return found[0][1] if len(found) == 1 else None


def _is_scalar(_, value):
    return eqx.is_array(value) and value.ndim == 0


def _no_records(steps, trained, has_monitor, has_norms, has_rates):
    zeros, no = jnp.zeros(steps), jnp.zeros(steps, bool)
    return Records(
        losses=zeros,
        monitored=zeros if has_monitor else None,
        zero_gradients=no,
        outputs_with_gradient=jnp.zeros((steps, *output_gradients(trained).shape), bool),
        gradient_norms=zeros if has_norms else None,
        learning_rates=zeros if has_rates else None,
        n_steps=jnp.int32(0),
        finite=jnp.asarray(True),
    )


def _add(records, loss, monitored, grads, norm, rate):
    """Write the row of one step."""

    def write(column, value):
        return column.at[records.n_steps].set(value.astype(column.dtype))

    def write_if(column, value):
        return None if column is None else write(column, value)

    return Records(
        losses=write(records.losses, loss),
        monitored=write_if(records.monitored, monitored),
        zero_gradients=write(records.zero_gradients, ~_any_nonzero(grads)),
        outputs_with_gradient=write(records.outputs_with_gradient, output_gradients(grads)),
        gradient_norms=write_if(records.gradient_norms, norm),
        learning_rates=write_if(records.learning_rates, rate),
        n_steps=records.n_steps + 1,
        finite=jnp.isfinite(loss),
    )


def _all_finite(trained, initially_finite):
    finite = jnp.asarray(True)
    for x, was_finite in zip(jax.tree.leaves(trained), initially_finite, strict=True):
        largest = jnp.max(jnp.abs(x), initial=0.0)  # NaN if one entry is NaN
        finite &= jnp.isfinite(largest) if was_finite else ~jnp.isnan(largest)
    return finite


def _any_nonzero(tree):
    """Return whether any entry is not 0.

    A cheap check of a few entries comes first, and is usually sufficient.
    """
    leaves = [x.reshape(-1) for x in jax.tree.leaves(tree)]
    sample = jnp.concatenate([x[:: max(1, x.size // _SAMPLE)] != 0 for x in leaves])

    def check_all(leaves):
        return jnp.any(jnp.stack([jnp.any(x != 0) for x in leaves]))

    return jax.lax.cond(jnp.any(sample), lambda _: jnp.asarray(True), check_all, leaves)
