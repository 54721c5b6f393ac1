"""A round with synaptic delays: its arrivals, and the spikes that are found on the way."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ...engine.instants import Instant
from ..deliveries import Context, Deliveries, carried, moved_and_fired, with_due
from ..lanes import lanes_of, receive
from ..system import rows_of, with_rows
from .arrivals import Arrivals, arrivals_of, listed_places, sums_of_weights, visit_at
from .sent import Sent
from .transit import Lists, passed_before

#: Length of a round, as a fraction of the longest one, below which too many spikes arrive at once.
_SHORTEST = 2.0**-40


def planned(
    context: Context,
    lists: Lists,
    sent: Sent,
    rows: Float[Array, "rows columns"],
    since: Instant,
    length: Array,
    first: Bool[Array, ""],
    recent: tuple[Array, Array],
    old: Arrivals,
) -> tuple[Arrivals, Float[Array, ""]]:
    """Arrivals of the next round, and its length. `first` is true of the first round.

    The round is at most `length`. It is shorter if it would have too many arrivals, or if the flow
    of a neuron is limited with these arrivals. If too many spikes arrive at once, `n_arrivals` is
    larger than the list.
    """
    setting, network = context.setting, context.network
    most, longest = setting.max_arrivals, length
    assert most is not None
    passed = passed_before(setting, lists, sent, since, first, recent)
    states = context.packing.state(rows[: setting.n])
    limited = not isinstance(network.flow.longest(network.neuron, states), float)

    def listed(length, old):
        return arrivals_of(setting, network, lists.axons, sent, passed, (since, length), old)

    def shorter(carry):
        length, old, _ = carry
        arrivals = listed(length, old)
        new = jnp.where(arrivals.n_arrivals > most, length / 2, length)
        if limited:
            sums = sums_of_weights(setting, network, arrivals)
            limits = network.flow.longest(network.neuron, states, *sums)
            new = jnp.minimum(new, jnp.min(limits))
        many = (arrivals.n_arrivals > most) & (new <= _SHORTEST * longest)
        return new, arrivals, (new < length) & ~many

    start = (length, old, jnp.ones((), bool))
    length, arrivals, _ = lax.while_loop(lambda carry: carry[2], shorter, start)
    return arrivals, length


def delivered_together(context: Context, d: Deliveries, arrivals: Arrivals) -> Deliveries:
    """Deliver the arrivals of a round, and advance all neurons to its end."""
    setting, network, packing = context.setting, context.network, context.packing
    arrivals, places = listed_places(setting, arrivals)

    def one(carry):
        place, d = carry
        visit = visit_at(setting, network, arrivals, place, d.length)
        lanes = lanes_of(network, packing, rows_of(d.rows, visit.row), visit.row, visit.time)
        ends, found, _ = moved_and_fired(context, d, lanes, visit.time, d.visit)
        before = packing.state(ends)
        after = receive(lanes.neuron, before, visit.weights)
        due = with_due(network, d.due, visit.row, carried(network, lanes, before, after))
        since = jnp.where(visit.arrives, visit.time, 0.0)
        rows = with_rows(d.rows, visit.row, packing.rows(after, since))
        return place + visit.n_places, d._replace(
            rows=rows, found=found, due=due, visit=d.visit + 1
        )

    start = (jnp.zeros((), jnp.int32), d._replace(clock=d.length, step=d.step + 1))
    return lax.while_loop(lambda carry: carry[0] < places, one, start)[1]
