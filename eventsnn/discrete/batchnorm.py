"""Batch normalisation, with statistics shared by all steps or of each step."""

import math
from typing import ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .. import axes, checks
from .base import AbstractCell
from .parameters import ArrayOrStruct, zero_state
from .steps import chosen, silenced

Model = TypeVar("Model")


class BatchNormState(NamedTuple):
    """State of a `BatchNorm` layer. In training it is the same for all samples.

    - `step`: number of steps so far.
    - `n_trained`: number of steps in training so far; with `num_steps`, 1 for each step with
        statistics, and 0 for the others.
    - `n_samples`: number of samples, summed over the steps in training so far.
    - `mean`, `var`: mean and unbiased variance of the batch, of shape `(channels,)`, pooled over
        all steps in training so far, or `(num_steps, channels)` with `num_steps`.
    - `valid`: whether a step is before the end of the sample, set by a run with `lengths` during
        the step. Default: None, every step is. The state that a run returns has None.
    """

    step: Int[Array, ""]
    n_trained: Int[Array, " *num_steps"]
    n_samples: Int[Array, ""]
    mean: Float[Array, "..."]
    var: Float[Array, "..."]
    valid: Bool[Array, ""] | None = None


class _Statistics(NamedTuple):
    """Mean and biased variance of one step over samples, height and width."""

    mean: Float[Array, "channels ..."]
    var: Float[Array, "channels ..."]
    n_samples: Int[Array, ""]
    n_within: int
    """Number of values per channel of one sample."""


class BatchNorm(AbstractCell):
    r"""Batch normalisation of each channel at each step:

    $$Y_t = \gamma\, \frac{X_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}} + b$$

    In training, $\mu_t$ and $\sigma_t^2$ are mean and variance of the step over all samples of the
    batch, on all devices of [`eventsnn.train.fit`][], and over height and width. In a run with
    `lengths`, they are those of the samples that have not ended before the step. In inference they
    are `running_mean` and `running_var` of the layer. The layer does not change during a run: the
    statistics of a run are in its last state, and [`eventsnn.discrete.with_statistics`][] puts them
    into the model.

    ```python
    run = discrete.run_batch(model, xs)  # or in the loss
    model = discrete.with_statistics(model, run.state)
    run = discrete.run_batch(eqx.nn.inference_mode(model), xs)
    ```

    With `num_steps`, each step has its own $\gamma_t$ and its own statistics, and $b = 0$: batch
    normalisation through time (Kim & Panda, Front. Neurosci. 15:773954, 2021, arXiv:2010.01729),
    snnTorch's `BatchNormTT1d` and `BatchNormTT2d`. Steps after the last one use its values.

    **Arguments:**

    - `channels`: number of channels, the length of the first axis of the input.
    - `num_steps`: number of steps with values of their own. Default: None, all steps share them.
    - `eps`: $\epsilon$ > 0. Default: 1e-5.
    - `inference`: whether the statistics of the layer are used. `equinox.nn.inference_mode` sets
        it. Default: False.

    Without `num_steps`, the statistics of a run are pooled over its steps. With $n_t$ values per
    channel at step $t$, they are $\sum_t n_t \mu_t / \sum_t n_t$ and
    $\sum_t n_t \sigma_t^2 / \sum_t (n_t - 1)$, over the steps with $n_t > 0$. If only one sample
    has not ended and it has one value per channel, then $n_t = 1$ and $Y_t = b$. With `num_steps`,
    such a step has no statistics.

    **Raises:** `ValueError` for values out of range. At the first step, `ValueError` for inputs
    with another number of channels. In training, `ValueError` also for a run without a batch, and
    for a batch with a single value per channel.
    """

    neuron_parameters: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")

    scale: Float[Array, "..."]
    shift: Float[Array, " channels"] | None
    running_mean: Float[Array, "..."]
    running_var: Float[Array, "..."]
    eps: float = eqx.field(static=True)
    inference: bool

    def __init__(
        self,
        channels: int,
        num_steps: int | None = None,
        *,
        eps: float = 1e-5,
        inference: bool = False,
    ):
        steps = checks.count_or_none("num_steps", num_steps)
        shape = (checks.count("channels", channels),)
        shape = shape if steps is None else (steps, *shape)
        self.scale, self.shift = jnp.ones(shape), jnp.zeros(shape) if steps is None else None
        self.running_mean, self.running_var = jnp.zeros(shape), jnp.ones(shape)
        self.eps = checks.positive("eps", eps)
        self.inference = checks.flag("inference", inference)

    def init_state(self, x: ArrayOrStruct) -> BatchNormState:
        channels = self.scale.shape[-1]
        if zero_state(x).shape[:1] != (channels,):
            raise ValueError(
                f"inputs must have {channels} channels along their first axis for BatchNorm, got "
                f"shape {x.shape}."
            )
        zeros = jnp.zeros(self.running_mean.shape, x.dtype)
        n_trained, zero = jnp.zeros(zeros.shape[:-1], jnp.int32), jnp.zeros((), jnp.int32)
        return BatchNormState(zero, n_trained, zero, zeros, zeros)

    def __call__(
        self, x: Array, state: BatchNormState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, BatchNormState]:
        def at(value):
            """Values of this step, which broadcast against the input."""
            value = jnp.asarray(checks.unwrapped(value)).astype(x.dtype)
            row = value[jnp.minimum(state.step, len(value) - 1)] if value.ndim == 2 else value
            return row.reshape(-1, *[1] * (x.ndim - 1))

        if self.inference:
            mean, var = at(self.running_mean), at(self.running_var)
            after = state._replace(step=chosen(state.valid, state.step + 1, state.step))
        else:
            x = silenced(state.valid, x)
            found = _statistics(x, state.valid)
            mean, var, after = found.mean, found.var, _recorded(state, found)
        out = at(self.scale) * (x - mean) * jax.lax.rsqrt(var + self.eps)
        return out if self.shift is None else out + at(self.shift), after


def with_statistics(model: Model, state: PyTree, *, momentum: float = 1.0) -> Model:
    """Put the statistics of a run into the [`BatchNorm`][] layers of a model.

    For the statistics of a whole data set, run a large batch in training mode after the training.
    In a custom training loop, `momentum=0.1` after each step keeps running averages, as PyTorch
    does.

    **Arguments:**

    - `model`: a model with [`BatchNorm`][] layers.
    - `state`: the state after a run of this model in training, `run.state`.
    - `momentum`: share $m$ of the new statistics, in (0, 1]: $(1 - m)$ old + $m$ new. Default: 1.

    **Returns:** a copy of the model with other `running_mean` and `running_var`.

    With `num_steps`, steps that the run did not reach, or with a single value per channel, keep
    their statistics.

    **Raises:** `ValueError` if the state is not of this model, or not of a run in training, or if
    `momentum` is out of range.
    """
    share = checks.number("momentum", momentum, "a number in (0, 1]", lambda m: 0 < m <= 1)
    layers, states = _of_kind(model, BatchNorm), _of_kind(state, BatchNormState)
    if not layers:
        raise checks.value_error("model", model, "a model with BatchNorm layers")
    if len(layers) != len(states):
        raise checks.value_error("state", state, f"a state with {len(layers)} BatchNormStates")
    pairs = zip(layers, map(_of_one_sample, states), strict=True)
    new = [x for layer, state in pairs for x in _mixed(layer, state, share)]

    def where(model):
        layers = _of_kind(model, BatchNorm)
        return [x for layer in layers for x in (layer.running_mean, layer.running_var)]

    return eqx.tree_at(where, model, new)


def _of_one_sample(state):
    """State of the first sample; the statistics are the same for all samples."""
    return state if state.step.ndim == 0 else jax.tree.map(lambda x: x[0], state)


def _mixed(layer, state, share):
    """Running statistics of a layer, with a share of those of a state."""
    if state.mean.shape != layer.running_mean.shape:
        expected = f"the state of a BatchNorm with statistics of shape {layer.running_mean.shape}"
        raise ValueError(f"state must be {expected}, got shape {state.mean.shape}.")
    known = state.n_trained > 0
    checks.raise_if("state", state.n_trained, ~jnp.any(known), "must be that of a run in training")

    def mixed(old, new):
        return jnp.where(known[..., None], (1 - share) * old + share * new.astype(old.dtype), old)

    return mixed(layer.running_mean, state.mean), mixed(layer.running_var, state.var)


def mark(states: PyTree, active: Bool[Array, ""] | None) -> PyTree:
    """Set `valid` of each [`BatchNormState`][] in `states` before a step of one sample.

    `active` is true before the end of the sample. None: the sample has no end.
    """
    return _over_states(lambda state: state._replace(valid=active), lambda x: x, states)


def hold(active: Bool[Array, ""] | None, states: PyTree, before: PyTree) -> PyTree:
    """Return the states after a step if it is active, otherwise those before it. None means active.

    A [`BatchNormState`][] is returned as the layer left it, with `valid` None: statistics of the
    batch may change after the end of the sample.
    """

    def unmarked(state, _):
        return state._replace(valid=None)

    return _over_states(unmarked, lambda *both: chosen(active, *both), states, before)


def _over_states(of_batch, otherwise, *trees):
    """Map over the states of `BatchNorm` layers, and over all other arrays."""

    def one(x, *more):
        return (of_batch if isinstance(x, BatchNormState) else otherwise)(x, *more)

    return jax.tree.map(one, *trees, is_leaf=lambda x: isinstance(x, BatchNormState))


def _of_kind(tree, kind):
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def _statistics(x, valid):
    """Statistics of one step over the valid samples of the batch. `valid` None: all samples."""
    within, over = tuple(range(1, x.ndim)), [name for name in axes.ALL if _size(name)]
    if axes.SAMPLES not in over:
        raise ValueError(
            "a model with BatchNorm must run on a batch (discrete.run_batch) in training, or in "
            "inference mode (equinox.nn.inference_mode), got one sample."
        )
    size, n_within = jax.lax.psum(1, over), math.prod(x.shape[1:])
    if size * n_within < 2:
        expected = "two or more values per channel, of all samples"
        raise ValueError(f"a batch for BatchNorm must have {expected}, got {size * n_within}.")
    n_samples = jnp.asarray(size, jnp.int32)
    if valid is not None:
        n_samples = jax.lax.psum(valid.astype(jnp.int32), over)

    def mean_of(values):
        own = jnp.mean(values, within, keepdims=True)
        if valid is None:
            return jax.lax.pmean(own, over)
        return jax.lax.psum(silenced(valid, own), over) / jnp.maximum(n_samples, 1).astype(x.dtype)

    mean = mean_of(x)
    return _Statistics(mean, mean_of((x - mean) ** 2), n_samples, n_within)


def _size(name):
    """Size of a named axis; 0 if there is none of this name."""
    try:
        return jax.lax.axis_size(name)
    except NameError:
        return 0


def _recorded(state, found):
    """State with the statistics of one more step, unchanged by a step without valid samples."""
    dtype = np.promote_types(found.mean.dtype, np.float32)  # for the numbers of values

    def freedom_of(n_samples, n_steps):
        """Degrees of freedom of the variance: number of values minus number of steps."""
        return n_samples.astype(dtype) * found.n_within - n_steps.astype(dtype)

    one = (found.n_samples > 0).astype(jnp.int32)
    samples = state.n_samples + found.n_samples
    freedom = freedom_of(found.n_samples, one)
    mean, var = jax.lax.stop_gradient((found.mean.ravel(), found.var.ravel()))
    var = var * ((freedom + 1) / jnp.maximum(freedom, 1)).astype(var.dtype)
    after = state._replace(step=state.step + one, n_samples=samples)
    if state.mean.ndim == 2:
        row = jnp.where(freedom > 0, state.step, len(state.mean))  # a row that does not exist
        new = {"n_trained": 1, "mean": mean, "var": var}
        put = {k: getattr(state, k).at[row].set(x, mode="drop") for k, x in new.items()}
        return after._replace(**put)

    steps = state.n_trained + one

    def mixed(old, new, part, whole):
        return old + (part / jnp.maximum(whole, 1)).astype(old.dtype) * (new - old)

    mean = mixed(state.mean, mean, found.n_samples.astype(dtype), samples.astype(dtype))
    var = mixed(state.var, var, freedom, freedom_of(samples, steps))
    return after._replace(n_trained=steps, mean=mean, var=var)
