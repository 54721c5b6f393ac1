"""From exact event times to steps: the same network in both modes."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from . import checks
from .discrete import MaskedLinear, RSynaptic, Run, Sequential, run
from .discrete.synaptic import RSynapticState
from .network import EventNetwork
from .neurons import LIF
from .surrogates import ATan


class Discretised(eqx.Module):
    """An event network in steps of `dt`, as [`discretise`][] makes it.

    The queries are those of the [`eventsnn.EventNetwork`][], at times that are multiples of `dt`.
    """

    model: Sequential
    """A linear layer from the input channels, and an `RSynaptic` of all neurons."""
    state: RSynapticState
    """The state at time 0."""
    dt: float = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)

    def bin(self, in_times: Float[ArrayLike, "inputs k"]) -> Float[Array, "steps inputs"]:
        """Input spike times as counts: a spike at $t$ counts in the step that ends at the first
        multiple of `dt` after $t$."""
        in_times = checks.input_times(in_times, self.model.layers[0].weight.shape[1], self.dtype)
        step = jnp.floor(in_times / self.dt)[None]
        return jnp.sum(
            step == jnp.arange(self.num_steps, dtype=self.dtype)[:, None, None], -1
        ).astype(self.dtype)

    def simulate(self, in_times: Float[ArrayLike, "inputs k"]) -> Run:
        """Spikes and membranes of all neurons at all steps, `(num_steps, n)`; a membrane counts
        from the reset potential."""
        xs = self.bin(in_times)
        return run(self.model, xs, state=(None, self.state))

    def ttfs(self, in_times: Float[ArrayLike, "inputs k"]) -> Float[Array, " outputs"]:
        """The end of the step in which each output first fires; inf if it does not."""
        return self.spikes(in_times, 1)[:, 0]

    def spikes(self, in_times: Float[ArrayLike, "inputs k"], k: int) -> Float[Array, "outputs k"]:
        """The ends of the first `k` steps in which each output fires, padded with inf."""
        k = checks.count("k", k)
        fired = self.simulate(in_times).spikes[:, jnp.array(self.outputs)].T > 0
        ends = self.dt * jnp.arange(1, self.num_steps + 1, dtype=self.dtype)
        times = jnp.sort(jnp.where(fired, ends, jnp.inf), axis=-1)[:, :k]
        return jnp.pad(times, ((0, 0), (0, k - times.shape[1])), constant_values=jnp.inf)

    @property
    def dtype(self):
        """That of the weights."""
        return self.model.layers[0].weight.dtype


def discretise(net: EventNetwork, dt: float, *, surrogate=None) -> Discretised:
    r"""The scan of an event network: neurons that snnTorch would step, with the parameters of the
    network at steps of `dt`.

    With $U = V - V_\text{reset}$ and $\beta = e^{-\Delta/\tau_m}$, $\alpha = e^{-\Delta/\tau_s}$,
    $c = (1 - \beta)(b - V_\text{reset})$ the LIF neuron becomes

    $$I_t = \alpha I_{t-1} + (1 - \beta)\left(W^\top S_{t-1} + W_\text{in}^\top X_t\right)
      + (1 - \alpha) c, \qquad U_t = \beta U_{t-1} + I_t - R_t (\theta - V_\text{reset}),$$

    from $I_0 = c$, which keeps the bias current at its place. Both modes then describe one system:
    spike times differ by $O(\Delta)$, for the step's end, for a spike that arrives one step
    later, and for a reset that subtracts, at a membrane that is $O(\Delta)$ above threshold.

    **Arguments:**

    - `net`: a network of [`eventsnn.LIF`][] neurons.
    - `dt`: $\Delta$ > 0, in the units of the time constants.
    - `surrogate`: the spike's derivative. Default: `ATan()`.

    **Raises:** `ValueError` for a network of other neurons, or `dt` that is not in (0, t_max].
    """
    neuron = net.neuron
    if not isinstance(neuron, LIF):
        raise ValueError(
            f"net must be a network of LIF neurons, got neurons {type(neuron).__name__}."
        )
    dt = checks.positive("dt", dt)
    if dt > net.t_max:
        raise ValueError(f"dt must be at most t_max = {net.t_max}, got {dt}.")
    n, weights = net.n_neurons, net.weights
    alpha, beta = jnp.exp(-dt / neuron.tau_syn), jnp.exp(-dt / neuron.tau_mem)
    v_reset = neuron.v_reset if neuron.reset_mode == "set" else jnp.zeros_like(neuron.v_reset)
    gain = jnp.broadcast_to(1 - beta, (n,))
    offset = gain * (neuron.bias - v_reset)
    mask = jnp.ones(weights.shape, bool) if net.mask is None else net.mask
    into = (gain * weights).T
    cell = RSynaptic(
        alpha,
        beta,
        MaskedLinear(into[:, :n], mask.T[:, :n]),
        threshold=neuron.threshold - v_reset,
        surrogate=ATan() if surrogate is None else surrogate,
    )
    # The bias enters where the inputs do.
    inputs = MaskedLinear(into[:, n:], mask.T[:, n:], (1 - alpha) * offset)
    start = jnp.broadcast_to(neuron.v_init - v_reset, (n,))
    state = RSynapticState(jnp.zeros_like(start), offset, start)
    # 80 / 0.1 is 800 steps, whatever the rounding.
    steps = math.ceil(round(net.t_max / dt, 6))
    return Discretised(Sequential((inputs, cell)), state, dt, steps, net.outputs)
