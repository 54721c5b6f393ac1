"""Predicted next spikes of all neurons, for spikes that arrive at once."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.instants import Instant
from ..lanes.compact import marked, pack
from ..lanes.firing import crosses_at, next_spike
from .lanes import FIRING, Lanes, moved, reset, with_spikes
from .records import Found
from .system import Network, Packing, Setting


class Predictions(NamedTuple):
    """Next spike of each neuron in the present round, if nothing arrives before.

    - `time`: time of the spike from the start of the round; inf if there is none.
    - `wait`: time from the last update of the neuron to the spike, and its rounding error.
    """

    time: Float[Array, " rows"]
    wait: Float[Array, "rows 2"]

    @classmethod
    def none(cls, setting: Setting, dtype: jnp.dtype) -> "Predictions":
        """Predictions of neurons that do not fire."""
        rows = setting.n + setting.width
        return cls(jnp.full(rows, jnp.inf, dtype), jnp.zeros((rows, 2), dtype))

    def earliest(self) -> tuple[Float[Array, ""], Int[Array, ""]]:
        """Time of the first spike, and its neuron: of several ones, the first neuron.

        XLA finds a minimum much faster than its index, which is therefore searched in one block.
        """
        width = max(1, int(self.time.size**0.5))
        blocks = jnp.pad(self.time, (0, -self.time.size % width), constant_values=jnp.inf)
        blocks = blocks.reshape(-1, width)
        block = jnp.argmin(jnp.min(blocks, axis=1)).astype(jnp.int32)
        place = jnp.argmin(blocks[block]).astype(jnp.int32)
        return blocks[block, place], block * width + place


def predicted(
    network: Network,
    packing: Packing,
    predictions: Predictions,
    lanes: Lanes,
    due: Bool[Array, " lanes"],
) -> Predictions:
    """Predict the next spikes of lanes again, within their times `dt`.

    Lanes in `due` are above their thresholds and fire at once.
    """
    n = network.gap_scale.size
    time = predictions.time.at[lanes.row].set(jnp.inf, mode="drop", unique_indices=True)
    _, may = moved(network, lanes)
    words = pack((may | due) & (lanes.row < n))
    many = jnp.sum(lax.population_count(words), dtype=jnp.int32)

    def body(carry):
        number, predictions = carry
        lane, exists = marked(words, number, FIRING)
        lane = jnp.minimum(lane, may.size - 1)
        chosen = lanes.of(packing, lane)
        scale = network.gap_scale[jnp.minimum(chosen.row, n - 1)]
        new = next_spike(network.flow, chosen.neuron, scale, chosen.start, chosen.dt, due[lane])
        row = jnp.where(exists, chosen.row, predictions.time.size)
        time = jnp.where(new.fires, chosen.since + new.wait, jnp.inf)
        wait = jnp.stack([new.wait, new.remainder], axis=1)
        return number + FIRING, Predictions(
            predictions.time.at[row].set(time, mode="drop", unique_indices=True),
            predictions.wait.at[row].set(wait, mode="drop", unique_indices=True),
        )

    start = (jnp.zeros((), jnp.int32), predictions._replace(time=time))
    return lax.while_loop(lambda carry: carry[0] < many, body, start)[1]


def fire_as_predicted(
    network: Network,
    packing: Packing,
    predictions: Predictions,
    lanes: Lanes,
    time: Array,
    near: Array,
    ends: Float[Array, "lanes components"],
    found: Found,
    visit: Array,
    due: Bool[Array, " lanes"],
) -> tuple[Float[Array, "lanes components"], Found, Bool[Array, " lanes"]]:
    """Let the lanes fire whose predicted spikes are not later than `time`, or tie with it.

    Only those within `near` can tie. Corrects the states `ends` of these lanes, and also returns a
    mask of those that fire at once, again or, of the lanes in `due`, still.
    """
    n = network.gap_scale.size
    late = predictions.time[lanes.row] - time
    words = pack((late <= near) & (lanes.row < n))
    many = jnp.sum(lax.population_count(words), dtype=jnp.int32)
    size = lanes.row.size

    def body(carry):
        number, ends, found, due = carry
        lane, exists = marked(words, number, FIRING)
        lane = jnp.minimum(lane, size - 1)
        chosen = lanes.of(packing, lane)
        row = jnp.minimum(chosen.row, n - 1)
        wait, remainder = predictions.wait[row].T
        end = packing.state(ends[lane])
        parts = network.flow, chosen.neuron, network.gap_scale[row]
        ties = crosses_at(*parts, chosen.start, chosen.dt, end)
        fires = exists & ((late[lane] <= 0) | ties)
        before = network.flow.advance(chosen.neuron, chosen.start, wait)
        after = reset(chosen.neuron, before)
        when = Instant.at(chosen.since).after(wait, remainder)
        # A spike that ties with the event is later only by rounding.
        past = when.high > time
        when = Instant(jnp.where(past, time, when.high), jnp.where(past, 0.0, when.low))
        found = with_spikes(found, fires, when, row, visit, packing.rows(before))
        at = jnp.where(fires, lane, size)
        ends = ends.at[at].set(packing.rows(after), mode="drop", unique_indices=True)
        again = chosen.neuron.threshold_gap(after) < 0
        due = due.at[at].set(again, mode="drop", unique_indices=True)
        return number + FIRING, ends, found, due

    start = (jnp.zeros((), jnp.int32), ends, found, due)
    return lax.while_loop(lambda carry: carry[0] < many, body, start)[1:]
