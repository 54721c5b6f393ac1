"""Sparse connectivity: one entry per synapse, in memory proportional to the number of synapses."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from .. import checks
from .connectivity import (
    bcoo_entries,
    dense_entries,
    full,
    is_bcoo,
    own,
    row_offsets,
    stable_order,
    taken,
)


class Synapses(eqx.Module):
    r"""Synapses of a network, one entry per synapse: source, target, weight and delay.

    Synapse $k$ connects `sources[k]` to `targets[k]`. Sources are numbered as the rows of the
    weight matrix of an [`eventsnn.EventNetwork`][]: neurons first, then input channels.

    The entries are sorted by source, then by target. Synapses of the same pair keep the order in
    which they were given. The synapses of source $j$ are therefore the entries `offsets[j]` to
    `offsets[j + 1] - 1`. To bring further values into this order, use
    `values[numpy.lexsort((targets, sources))]`.

    A pair may have several synapses. Their weights add up, and each has its own delay.

    Weights and delays are leaves that an optimiser can train. The other arrays are integers and
    stay as they are: training neither adds nor removes a synapse.
    """

    sources: Int[Array, " synapses"]
    targets: Int[Array, " synapses"]
    weights: Float[Array, " synapses"]
    delays: Float[Array, " delays"] | None
    offsets: Int[Array, " rows"]
    shape: tuple[int, int] = eqx.field(static=True)

    def __init__(
        self,
        sources: Int[ArrayLike, " synapses"] | Sequence[int],
        targets: Int[ArrayLike, " synapses"] | Sequence[int],
        weights: Real[ArrayLike, "*synapses"] | Sequence,
        shape: tuple[int, int],
        delays: Real[ArrayLike, "*delays"] | Sequence | None = None,
    ):
        """**Arguments:**

        - `sources`: index of the source of each synapse, in 0 ... n + n_in - 1: neurons, then
            input channels. Shape `(synapses,)`, in any order.
        - `targets`: index of the target neuron of each synapse, in 0 ... n - 1, same shape.
        - `weights`: weight of each synapse, same shape. A number is the weight of all synapses.
        - `shape`: `(n + n_in, n)`, for n neurons and n_in input channels.
        - `delays`: transmission delays, >= 0, in the units of the time constants. Synaptic delays
            have shape `(synapses,)`. Axonal delays have shape `(n + n_in,)`, one per source; a
            number is the delay of all sources. A shape that is both is that of synaptic delays;
            `delays[sources]` makes synaptic delays of axonal ones. Default: None, spikes arrive at
            once.

        Weights and delays that are wrapped by [`eventsnn.constrain`][] stay wrapped. Sources and
        targets must be known: they may not be traced by `jax.jit` or `jax.vmap`, as weights and
        delays may be. Inside `jax.jit`, compute them with NumPy. A network with traced synaptic
        delays is simulated with a matrix of weights.

        **Raises:** `ValueError` for arrays of different lengths, an index out of range, a `shape`
        with n < 1 or n_in < 0, a weight that is not finite, or a delay that is not finite and >= 0.
        """
        self.shape = checks.connectivity_shape(shape)
        pre, post = checks.synapse_indices(sources, targets, self.shape)
        n, rows = len(pre), self.shape[0]
        # Known indices and delays stay known inside `jax.jit`.
        with jax.ensure_compile_time_eval():
            w = checks.one_each("weights", weights, checks.FINITE, {"synapse": n})
            if delays is not None:
                sizes = {"synapse": n, "source": rows}
                delays = checks.one_each("delays", delays, checks.NOT_NEGATIVE, sizes)
            by_source = stable_order(pre, post, self.shape[1])
            pre, post = pre[by_source], post[by_source]
            self.sources, self.targets = jnp.array(pre), jnp.array(post)
            self.offsets = jnp.array(row_offsets(pre, rows))
            self.weights = own(taken(full(w, n), by_source))
            self.delays = None
            if delays is not None:
                d = full(delays, rows)
                synaptic = checks.unwrapped(d).shape == (n,)
                self.delays = own(taken(d, by_source) if synaptic else d, self.weights.dtype)

    @staticmethod
    def from_dense(
        weights: Real[ArrayLike, "rows neurons"] | Sequence,
        mask: Bool[ArrayLike, "rows neurons"] | Sequence | None = None,
        delays: Real[ArrayLike, "*delays"] | Sequence | None = None,
    ) -> "Synapses":
        """Synapses of a dense weight matrix.

        **Arguments:**

        - `weights`: weights of shape `(n + n_in, n)`, as for [`eventsnn.EventNetwork`][].
        - `mask`: mask of the existing synapses, booleans of the same shape. None (the default):
            the synapses are the weights other than 0.
        - `delays`: None, a number, axonal delays of shape `(n + n_in,)`, or synaptic delays of the
            shape of the weights. Default: None.

        **Raises:** as [`Synapses`][], and `ValueError` for a mask of another shape. Without a mask
        the weights must be known.
        """
        return Synapses(*dense_entries(weights, mask, delays))

    @staticmethod
    def from_bcoo(
        matrix: Any, delays: Real[ArrayLike, "*delays"] | Sequence | None = None
    ) -> "Synapses":
        """Synapses of a sparse matrix of JAX.

        Entries of the same pair become several synapses. Padding, which are entries with an index
        outside the matrix, is left out.

        **Arguments:**

        - `matrix`: a `jax.experimental.sparse.BCOO` of shape `(n + n_in, n)`, without batch and
            dense axes.
        - `delays`: as for [`Synapses`][], synaptic ones in the order of the entries of the matrix.
            Default: None.

        **Raises:** as [`Synapses`][], and `ValueError` for anything but such a matrix.
        """
        return Synapses(*bcoo_entries(matrix, delays))

    @property
    def dtype(self) -> Any:
        """Type of the weights."""
        return self.weights.dtype

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.shape[1]

    @property
    def n_inputs(self) -> int:
        """Number of input channels."""
        return self.shape[0] - self.shape[1]

    @property
    def n_synapses(self) -> int:
        """Number of synapses."""
        return self.sources.shape[-1]

    @property
    def axonal(self) -> bool:
        """True if there are delays, one per source. False for one per synapse, and for None."""
        return self.delays is not None and self.delays.shape[-1] != self.n_synapses

    def synaptic_delays(self) -> Float[Array, " synapses"] | None:
        """Delay of each synapse, also if the delays are axonal. None without delays."""
        delays = checks.unwrapped(self.delays)
        return delays[self.sources] if self.axonal else delays

    def to_dense(self) -> Float[Array, "sources neurons"]:
        """Weight matrix of shape `(n + n_in, n)`, with the sum of the weights of each pair.

        With [`mask`][] and [`dense_delays`][], it makes the same network with dense weights.
        """
        zeros = jnp.zeros(self.shape, self.weights.dtype)
        return zeros.at[self.sources, self.targets].add(checks.unwrapped(self.weights))

    def mask(self) -> Bool[Array, "sources neurons"]:
        """Mask of the existing synapses, booleans of shape `(n + n_in, n)`."""
        return jnp.zeros(self.shape, bool).at[self.sources, self.targets].set(True)

    def dense_delays(self) -> Float[Array, " sources *neurons"] | None:
        """Delays for dense weights: None, axonal ones, or synaptic ones of shape `(n + n_in, n)`.

        The delay of a pair without a synapse is 0.

        **Raises:** `ValueError` if synapses of the same pair have different delays. Under `jax.jit`
        their delay is NaN.
        """
        delays = checks.unwrapped(self.delays)
        if delays is None or self.axonal:
            return delays
        pre, post = self.sources, self.targets
        repeated = (pre == jnp.roll(pre, 1)) & (post == jnp.roll(post, 1))
        repeated = repeated.at[:1].set(False)
        differs = repeated & (delays != jnp.roll(delays, 1))
        expected = "must agree for synapses of the same pair, which a dense matrix cannot separate"
        checks.raise_if("delays", delays, differs, expected)
        added = jnp.where(repeated, jnp.where(differs, jnp.nan, 0.0), delays)
        return jnp.zeros(self.shape, delays.dtype).at[pre, post].add(added)

    def out_degrees(self) -> Int[Array, " sources"]:
        """Number of synapses from each source, shape `(n + n_in,)`."""
        return jnp.diff(self.offsets)

    def in_degrees(self) -> Int[Array, " neurons"]:
        """Number of synapses to each neuron, shape `(n,)`."""
        return jnp.zeros(self.shape[1], jnp.int32).at[self.targets].add(1)


def as_synapses(weights: Any, receptors: int, others: dict[str, Any]) -> Synapses | None:
    """Synapses of a network with sparse weights; None for any other weights.

    `others` are the arguments that a network with sparse weights does not have.

    **Raises:** `ValueError` for one of these arguments that is not None, or several receptors.
    """
    if not isinstance(weights, Synapses):
        if not is_bcoo(weights):
            return None
        weights = Synapses.from_bcoo(weights)
    for name, value in others.items():
        if value is not None:
            raise checks.value_error(name, value, "None with sparse weights")
    if receptors > 1:
        expected = f"a matrix for a neuron model with {receptors} receptors"
        raise checks.value_error("weights", weights, expected)
    return weights
