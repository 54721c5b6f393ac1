"""Spikes and synaptic operations of a model on data, for both modes."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import ArrayLike, Num, PRNGKeyArray

from .. import checks
from ..discrete import AbstractCell
from ..event import AbstractLayer, EventNetwork, EventSequential
from .discrete_counts import discrete_operations
from .event_counts import event_operations
from .records import Operations

_EVENT = AbstractLayer | EventSequential | EventNetwork


def operations(
    model: Any,
    inputs: Num[ArrayLike, "..."],
    *,
    num_steps: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Operations:
    """Count the spikes and the synaptic operations of every layer of a model, in either mode.

    ```python
    print(esn.operations(model, in_times))
    # layer      type                           neurons  spikes  sparsity      ACs  MACs  dense
    # layers[0]  EventLinear (LIF)                  100   154.2     54.0%  3,312.5   0.0      -
    # layers[1]  EventLinear (LeakyIntegrator)        0     0.0         -  1,542.0   0.0      -
    # total                                         100   154.2     54.0%  4,854.5   0.0      -
    ```

    A *synaptic operation* is one spike at one existing synapse: a spike counts as often as it has
    outgoing synapses that the mask does not remove; at the border of a convolution it has fewer
    than in the interior. Operations are counted in the layer that receives the spike. All numbers
    are means over the samples.

    The measures are those of NeuroBench (Yik et al., Nature Communications 16:1545, 2025,
    arXiv:2304.04640), with weights that are 0 counted like all others. `accumulates` (ACs) are
    the operations of a layer if all its inputs are -1, 0 or 1, and `multiplies` (MACs) otherwise;
    an input of 0 takes none. In the discrete-time mode, a constant input counts at every step.
    Biases, resets and decays do not count. Connection sparsity and footprint:
    [`eventsnn.summary`][].

    In the event mode, a layer receives all spikes that are sent until its `t_max`, with any delay.
    With `max_spikes`, only spikes that the layer returns count; pseudospikes do not. There are no
    time steps, and the activation sparsity is the fraction of silent responses, one neuron in one
    sample.

    **Arguments:**

    - `model`: an [`eventsnn.EventSequential`][], an event layer or an [`eventsnn.EventNetwork`][],
        whose neurons form the two layers `hidden` and `outputs`; or a cell or
        [`eventsnn.discrete.Sequential`][] with synapses in `equinox.nn.Linear`, `Conv`,
        `ConvTranspose`, [`eventsnn.discrete.MaskedLinear`][] and [`eventsnn.discrete.OneToOne`][],
        as layers or as feedback. Normalisations and [`eventsnn.discrete.Delay`][] have none. Other
        layers with weights are refused, for example spiking LSTMs.
    - `inputs`: spike times with one batch axis, or the inputs of
        [`eventsnn.discrete.run_batch`][].
    - `num_steps`, `key`: see [`eventsnn.discrete.run_batch`][]; only for the discrete-time mode.
        Defaults: None.

    **Returns:** an [`Operations`][].

    **Raises:** `ValueError` for another model, or inputs that it does not accept.
    """
    expected = "a model of the event mode, a cell or a discrete.Sequential"
    checks.instance("model", model, _EVENT | AbstractCell, expected)
    if isinstance(model, AbstractCell):
        xs = jnp.asarray(checks.as_floating(checks.numbers("inputs", inputs)))
        if xs.ndim < (2 if num_steps is None else 1):
            axes = "(T, batch, ...), or (batch, ...) with num_steps"
            raise ValueError(f"inputs must have shape {axes}, got shape {xs.shape}.")
        layers, failed = discrete_operations(model, xs, num_steps=num_steps, key=key)
        return Operations(layers, failed)
    for name, value in (("num_steps", num_steps), ("key", key)):
        if value is not None:
            raise checks.value_error(name, value, "None in the event mode")
    times = "spike times >= 0, padded with inf, with a batch axis (one sample: inputs[None])"
    in_times = jnp.asarray(checks.as_floating(checks.numbers("inputs", inputs, times)))
    if in_times.ndim < 3 or not bool(jnp.all(in_times >= 0)):
        raise checks.value_error("inputs", inputs, times)
    layers, failed = event_operations(model, in_times)
    return Operations(layers, failed)
