"""Batch normalisation, with statistics shared by all steps or of each step."""

import math
from typing import ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .. import axes, checks
from .base import AbstractCell
from .parameters import ArrayOrStruct, zero_state

Model = TypeVar("Model")


class BatchNormState(NamedTuple):
    """State of a `BatchNorm` layer, the same for all samples.

    - `step`: number of steps so far.
    - `n_trained`: number of steps in training so far; with `num_steps`, 1 for each step that was in
        training, and 0 for the others.
    - `mean`, `var`: mean and unbiased variance of the batch, of shape `(channels,)`, averaged over
        all steps in training so far, or `(num_steps, channels)` with `num_steps`.
    """

    step: Int[Array, ""]
    n_trained: Int[Array, " *num_steps"]
    mean: Float[Array, "..."]
    var: Float[Array, "..."]


class BatchNorm(AbstractCell):
    r"""Batch normalisation of each channel at each step:

    $$Y_t = \gamma\, \frac{X_t - \mu_t}{\sqrt{\sigma_t^2 + \epsilon}} + b$$

    In training, $\mu_t$ and $\sigma_t^2$ are mean and variance of the step over all samples of the
    batch, on all devices of [`eventsnn.train.fit`][], and over height and width. In inference they
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

    A run in training takes no `lengths`: the statistics are those of all steps. For samples of
    different lengths, train with zeros after their ends and give the lengths to the loss only; in
    inference, the run takes them, too.

    **Raises:** `ValueError` for values out of range. At the first step, `ValueError` for inputs
    with another number of channels. In training, `ValueError` also for a run with `lengths`, for a
    run without a batch, and for a single value per channel.
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
        count = jnp.zeros(zeros.shape[:-1], jnp.int32)
        return BatchNormState(jnp.zeros((), jnp.int32), count, zeros, zeros)

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
            after = state._replace(step=state.step + 1)
        else:
            mean, var, n = _statistics(x)
            after = _recorded(state, mean.ravel(), var.ravel() * (n / (n - 1)))
        out = at(self.scale) * (x - mean) * jax.lax.rsqrt(var + self.eps)
        return out if self.shift is None else out + at(self.shift), after


def with_statistics(model: Model, state: PyTree, *, momentum: float = 1.0) -> Model:
    """Put the statistics of a run into the [`BatchNorm`][] layers of a model.

    For the statistics of a whole data set, run a large batch in training mode, without `lengths`,
    after the training. In a custom training loop, `momentum=0.1` after each step keeps running
    averages, as PyTorch does.

    **Arguments:**

    - `model`: a model with [`BatchNorm`][] layers.
    - `state`: the state after a run of this model in training, `run.state`.
    - `momentum`: share $m$ of the new statistics, in (0, 1]: $(1 - m)$ old + $m$ new. Default: 1.

    **Returns:** a copy of the model with other `running_mean` and `running_var`.

    With `num_steps`, steps that the run did not reach keep their statistics.

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


def is_training(model: PyTree) -> bool:
    """Return whether a model has [`BatchNorm`][] layers that use the statistics of the batch."""
    return any(not layer.inference for layer in _of_kind(model, BatchNorm))


def _of_kind(tree, kind):
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]


def _statistics(x):
    """Mean and variance over the batch, height and width, and the number of values."""
    within, over = tuple(range(1, x.ndim)), [name for name in axes.ALL if _size(name)]
    if axes.SAMPLES not in over:
        raise ValueError(
            "a model with BatchNorm must run on a batch (discrete.run_batch) in training, or in "
            "inference mode (equinox.nn.inference_mode), got one sample."
        )
    n = math.prod([*map(_size, over), *x.shape[1:]])
    if n < 2:
        expected = "two or more values per channel, of all samples"
        raise ValueError(f"a batch for BatchNorm must have {expected}, got {n}.")
    mean = jax.lax.pmean(jnp.mean(x, within, keepdims=True), over)
    var = jax.lax.pmean(jnp.mean((x - mean) ** 2, within, keepdims=True), over)
    return mean, var, n


def _size(name):
    """Size of a named axis; 0 if there is none of this name."""
    try:
        return jax.lax.axis_size(name)
    except NameError:
        return 0


def _recorded(state, mean, var):
    """State with the statistics of one more step."""
    step, found = state.step, jax.lax.stop_gradient((mean, var))
    pairs = zip((state.mean, state.var), found, strict=True)
    if state.mean.ndim == 2:
        count = state.n_trained.at[step].set(1, mode="drop")
        rows = (old.at[step].set(x, mode="drop") for old, x in pairs)
        return BatchNormState(step + 1, count, *rows)
    weight = 1 / (state.n_trained + 1).astype(mean.dtype)
    return BatchNormState(
        step + 1, state.n_trained + 1, *(old + weight * (x - old) for old, x in pairs)
    )
