"""Activity regularisers: terms added to a loss."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..checks import broadcast, check_elements, is_concrete, numbers, short_repr
from .sequences import sequences


def l1_rate_sparsity(
    spikes: Float[Array, "time *batch n_out"],
    strength: float = 1e-5,
    *,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    """Product of `strength` and the total spike count over all steps, samples and neurons.

    **Arguments:**

    - `spikes`: as for [`target_rate`][].
    - `strength`: a scalar. Default: 1e-5.
    - `lengths`: as for [`target_rate`][].
    """
    spikes = sequences("spikes", spikes, lengths).values
    return broadcast("strength", strength, (), "a scalar", spikes.dtype) * jnp.sum(spikes)


def target_rate(
    spikes: Float[Array, "time *batch n_out"],
    rate: Float[ArrayLike, "*n_out"],
    *,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Mean squared error of the firing rates,

    $$\operatorname{mean}_j \left[(f_j - \hat f_j)^2\right]$$

    where $f_j$ is the firing rate of neuron $j$ in spikes per step, averaged over the steps and the
    batch (Bellec et al., 2018, NeurIPS, arXiv:1803.09574). The rates of single samples may differ
    from the target. Silent neurons receive a gradient through the surrogate gradient.

    **Arguments:**

    - `spikes`: spikes, time axis first and neurons on the last axis. All other axes are samples.
    - `rate`: $\hat f$, target rates in spikes per step, in [0, 1]. A scalar, or one value per
        neuron.
    - `lengths`: number of steps of each sample, as in [`eventsnn.discrete.run_batch`][]. What
        follows has no effect. Default: None, all steps.

    **Raises:** `ValueError` if `rate` has another shape or is out of range.
    """
    rates = _rates(spikes, lengths)
    return jnp.mean((rates - _target_rates("rate", rate, rates)) ** 2)


def rate_range(
    spikes: Float[Array, "time *batch n_out"],
    *,
    lower: Float[ArrayLike, "*n_out"] = 0.0,
    upper: Float[ArrayLike, "*n_out"] = 1.0,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Mean squared distance of the firing rates from a range:

    $$\operatorname{mean}_j \left(\max(0, l - f_j)^2 + \max(0, f_j - u)^2\right)$$

    with $f_j$ as in [`target_rate`][]. Rates within the range add nothing. After Zenke & Vogels
    (2021, Neural Computation 33, 899-925), who use a lower and an upper bound on the activity.

    **Arguments:**

    - `spikes`: as for [`target_rate`][].
    - `lower`, `upper`: $l$ and $u$, bounds in spikes per step, in [0, 1]. Scalars, or one value
        per neuron. Defaults: 0 and 1.
    - `lengths`: as for [`target_rate`][].

    **Raises:** `ValueError` if a bound has another shape or is out of range, or `lower` is above
    `upper`.
    """
    rates = _rates(spikes, lengths)
    low, high = _target_rates("lower", lower, rates), _target_rates("upper", upper, rates)
    if is_concrete(low) and is_concrete(high) and np.any(np.asarray(low) > np.asarray(high)):
        given = f"{short_repr(lower)} and {short_repr(upper)}"
        raise ValueError(f"lower and upper must be bounds with lower <= upper, got {given}.")
    return jnp.mean(jnp.maximum(low - rates, 0) ** 2 + jnp.maximum(rates - high, 0) ** 2)


def _rates(spikes, lengths):
    found = sequences("spikes", spikes, lengths)
    return jnp.sum(found.values, axis=tuple(range(found.values.ndim - 1))) / found.total


def _target_rates(name, value, rates):
    x = numbers(name, value)
    if x.shape not in ((), rates.shape):
        raise ValueError(
            f"{name} must be a number or have shape {rates.shape}, got shape {x.shape}."
        )
    check_elements(name, x, lambda v: (v >= 0) & (v <= 1), "in [0, 1], in spikes per step")
    return jnp.asarray(x, rates.dtype)
