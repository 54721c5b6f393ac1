"""Conversion of an event network to a discrete-time model."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from . import checks
from .constraints import unwrap
from .discrete import MaskedLinear, RSynaptic, Run, Sequential, run
from .discrete.surrogates import ATan
from .discrete.synaptic import RSynapticState
from .event import LIF, EventNetwork


class Discretised(eqx.Module):
    """Discrete-time version of an event network with time step `dt`, made by [`discretise`][].

    It has queries of [`eventsnn.EventNetwork`][] with the same names, and they also take leading
    batch axes. The spike times are multiples of `dt`.

    The argument `in_times` of the methods has the spike times of each input channel, >= 0, in any
    order, padded with `inf`. Its shape is `(*batch, inputs, k)`.
    """

    model: Sequential
    """Linear layer of the input channels, followed by one `RSynaptic` layer of all neurons."""
    state: RSynapticState
    """Initial state of the `RSynaptic` layer, at time 0."""
    v_reset: Float[Array, "*neurons"]
    """Reset potential. The membrane potentials of `model` are relative to it."""
    dt: float = eqx.field(static=True)
    """Time step, in the unit of the time constants."""
    t_max: float = eqx.field(static=True)
    """End of the simulation, as in the event network."""
    outputs: tuple[int, ...] = eqx.field(static=True)
    """Indices of the output neurons."""

    @property
    def num_steps(self) -> int:
        """Number of steps up to `t_max`, rounded up."""
        return math.ceil(round(self.t_max / self.dt, 6))  # 80 / 0.1 must be 800 despite rounding

    def bin(self, in_times: Float[ArrayLike, "*batch inputs k"]) -> Float[Array, "..."]:
        """Convert input spike times to spike counts per step, `(*batch, num_steps, inputs)`.

        A spike at $t$ counts in the step that ends at the first multiple of `dt` after $t$. A time
        that is NaN or negative raises an error. Under `jax.jit` it cannot raise, and the counts of
        its channel become NaN.
        """
        weights = self.model.layers[0].weight
        # Half precision cannot represent all step indices.
        dtype = weights.dtype if jnp.finfo(weights.dtype).bits >= 32 else jnp.float32
        in_times = checks.input_times(in_times, weights.shape[1], dtype)[..., None, :, :]
        begun = jnp.arange(self.num_steps, dtype=dtype)[:, None, None]
        counts = jnp.sum(_completed_steps(in_times, self.dt) == begun, axis=-1, dtype=weights.dtype)
        return jnp.where(jnp.any(~(in_times >= 0), axis=-1), jnp.nan, counts)

    def simulate(self, in_times: Float[ArrayLike, "*batch inputs k"]) -> Run:
        """Run the model. Return spikes and membrane potentials of all neurons at all steps.

        Both have shape `(*batch, num_steps, n)`. The potentials are relative to `v_reset`.
        """
        state = (None, unwrap(self.state))

        def one(xs):
            return run(self.model, xs, state=state)

        xs = self.bin(in_times)
        for _ in xs.shape[:-2]:
            one = jax.vmap(one)
        return one(xs)

    def ttfs(self, in_times: Float[ArrayLike, "*batch inputs k"]) -> Float[Array, "*batch outputs"]:
        """Return the first spike time of each output, the end of the step in which it fires.

        `inf` for an output without a spike, NaN for an output whose membrane potential becomes NaN.
        """
        return self.spikes(in_times, 1)[..., 0]

    def spikes(
        self, in_times: Float[ArrayLike, "*batch inputs k"], max_spikes: int
    ) -> Float[Array, "*batch outputs max_spikes"]:
        """Return the first `max_spikes` spike times of each output, padded with `inf`.

        A spike time is the end of the step in which the neuron fires. All times of an output are
        NaN if its membrane potential becomes NaN.
        """
        count = checks.count("max_spikes", max_spikes)
        fired = self.simulate(in_times).spikes[..., jnp.array(self.outputs)]
        ends = self.dt * jnp.arange(1, self.num_steps + 1, dtype=fired.dtype)
        times = jnp.where(jnp.moveaxis(fired, -1, -2) > 0, ends, jnp.inf)
        times = jnp.sort(times, axis=-1)[..., :count]
        missing = [(0, 0)] * (times.ndim - 1) + [(0, count - times.shape[-1])]
        times = jnp.pad(times, missing, constant_values=jnp.inf)
        return jnp.where(jnp.any(jnp.isnan(fired), axis=-2)[..., None], jnp.nan, times)

    def potentials_at(
        self, in_times: Float[ArrayLike, "*batch inputs k"], times: Float[ArrayLike, " times"]
    ) -> Float[Array, "*batch outputs times"]:
        """Return the membrane potentials of the outputs at the given times.

        `times` has shape `(times,)`, with values in [0, `t_max`], in any order. The potential at a
        time is the potential after the last step completed by that time.
        """
        times = checks.observation_times(times, self.t_max, self.state.mem.dtype)
        membranes = self.simulate(in_times).membranes
        start, v_reset = unwrap((self.state.mem, self.v_reset))
        start = jnp.broadcast_to(start, (*membranes.shape[:-2], 1, membranes.shape[-1]))
        v = jnp.concatenate([start, membranes], axis=-2) + v_reset
        v = jnp.moveaxis(v, -1, -2)[..., jnp.array(self.outputs), :]
        v = v[..., _completed_steps(times, self.dt).astype(int)]
        return jnp.where((times >= 0) & (times <= self.t_max), v, jnp.nan)


def discretise(
    net: EventNetwork, dt: float, *, surrogate: Callable[..., Array] | None = None
) -> Discretised:
    r"""Convert an event network to a discrete-time model with time step `dt`.

    The model uses the neuron equations of snnTorch, with parameters computed from the network and
    `dt`. With $U = V - V_\text{reset}$, $\beta = e^{-\Delta/\tau_m}$,
    $\alpha = e^{-\Delta/\tau_s}$ and $c = (1 - \beta)(b - V_\text{reset})$, the LIF neuron becomes

    $$J_t = \alpha J_{t-1} + (1 - \beta)\,q\left(W^\top S_{t-1} + W_\text{in}^\top X_t\right)
      + (1 - \alpha) c, \qquad U_t = \beta U_{t-1} + J_t - R_t (\theta - V_\text{reset}),$$

    where $J = (1 - \beta) I + c$ combines the synaptic current and the bias in an exponential Euler
    step, with $J_0 = c$. The factor $q = (1 - \alpha)\,\tau_s/\Delta$ is close to 1. With it, the
    sum of a decaying current over the steps has the same charge as its integral. With
    `reset_mode="subtract"`, $V_\text{reset} = 0$ in these equations.

    As $\Delta \to 0$, the spike times converge to those of the event mode with an error of
    $O(\Delta)$. There are three sources of error: a spike is assigned to the end of its step, it
    arrives one step later, and the reset subtracts $\theta - V_\text{reset}$ from a membrane
    potential that is $O(\Delta)$ above threshold. Spikes on a grid allow first-order accuracy only
    (Morrison, Straube, Plesser & Diesmann, Neural Computation 19:47, 2007).

    **Arguments:**

    - `net`: a network of [`eventsnn.LIF`][] neurons, with or without wrapped parameters. The result
        is differentiable with respect to its parameters, with surrogate gradients at the spikes.
        `pseudospikes` of the network are ignored: an output without a spike has the time `inf`.
    - `dt`: $\Delta$, the time step, in (0, `t_max`], in the unit of the time constants.
    - `surrogate`: the surrogate gradient of the spikes. Default: None, `ATan()`.

    **Raises:** `ValueError` for a network of other neurons or with delays, for parameters that are
    out of range or not finite, for `dt` outside (0, `t_max`], and for a neuron whose initial
    potential is not below its threshold.
    """
    net = unwrap(checks.instance("net", net, EventNetwork, "an EventNetwork")).as_dense()
    neuron, dt = _neuron(net), checks.positive("dt", dt)
    if dt > net.t_max:
        raise ValueError(f"dt must be at most t_max = {net.t_max}, got {dt}.")
    n = net.n_neurons
    alpha, beta = jnp.exp(-dt / neuron.tau_syn), jnp.exp(-dt / neuron.tau_mem)
    v_reset = neuron.v_reset if neuron.reset_mode == "set" else jnp.zeros_like(neuron.v_reset)
    gain = jnp.broadcast_to(1 - beta, (n,))
    offset = gain * (neuron.bias - v_reset)
    charge = (1 - alpha) * neuron.tau_syn / dt
    mask = jnp.ones(net.matrix.shape, bool) if net.mask is None else net.mask
    weights, mask = (gain * charge * jnp.where(mask, net.matrix, 0)).T, mask.T
    cell = RSynaptic(
        alpha,
        beta,
        MaskedLinear(weights[:, :n], mask[:, :n]),
        threshold=neuron.threshold - v_reset,
        v_reset=jnp.zeros((), net.matrix.dtype),
        surrogate=ATan() if surrogate is None else surrogate,
    )
    # The bias is part of the input layer.
    inputs = MaskedLinear(weights[:, n:], mask[:, n:], (1 - alpha) * offset)
    start = jnp.broadcast_to(neuron.v_init - v_reset, (n,))
    state = RSynapticState(jnp.zeros_like(start), offset, start)
    return Discretised(Sequential((inputs, cell)), state, v_reset, dt, net.t_max, net.outputs)


def _neuron(net: EventNetwork) -> LIF:
    """Return the neurons of the network. Raise if the network cannot be discretised."""
    neuron = net.neuron
    if not isinstance(neuron, LIF):
        raise ValueError(
            f"net must be a network of LIF neurons, got {type(neuron).__name__} neurons."
        )
    if net.delays is not None:
        raise ValueError(
            "net must have no delays, since a discretised network delivers every spike at the next "
            f"step, got delays of shape {net.delays.shape}."
        )
    for name in ("tau_mem", "tau_syn", "threshold", "v_reset", "bias", "v_init"):
        value = getattr(neuron, name)
        least = 0 if name.startswith("tau") else -jnp.inf
        ok = (value > least) & jnp.isfinite(value)
        checks.raise_if(name, value, ~ok, "must be finite" + (" and > 0" if least == 0 else ""))
    bad = ~jnp.isfinite(net.matrix) & (True if net.mask is None else net.mask)
    checks.raise_if("weights", net.matrix, bad, "must be finite")
    # In the event mode such a neuron would fire at time 0, before the first step.
    over = ~(neuron.v_init < neuron.threshold)
    checks.raise_if("v_init", neuron.v_init, over, "must be below threshold")
    return neuron


def _completed_steps(times: Array, dt: float) -> Array:
    """Number of steps of `dt` completed at each time.

    A time that is a multiple of `dt` up to rounding errors counts as a multiple.
    """
    steps = times / dt
    nearest = jnp.round(steps)
    rounding = 4 * float(jnp.finfo(steps.dtype).eps) * nearest
    return jnp.where(jnp.abs(steps - nearest) <= rounding, nearest, jnp.floor(steps))
