"""The first crossing within one step of a solver: where to look, and the root of the step map.

All arrays are those of one sample; the last axis is the neuron's. Along a step, the gap is known
from the solver's dense output, which is cheap, and from the step map (the state after one step of
size t), which is what the simulation is made of. The dense output says where to look; the step map
decides.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

#: Where a piece between two nodes is checked: the golden section, so that no oscillation of the
#: gap is in step with the nodes.
_CHECK = 0.5 * (3.0 - 5.0**0.5)

#: The cubic through the nodes must agree with the gap to this share of its size.
_AGREEMENT = 1e-3

_SMALLEST_WINDOW = 2.0**-16

_MAX_ITERATIONS = 500


class Suspects(NamedTuple):
    """Points of a step, in units of its length, at which a neuron may be past its threshold, in
    any order; inf where there is none. The step is searched up to `upto`."""

    points: Float[Array, "points n"]
    upto: Float[Array, ""]


class _Window(NamedTuple):
    """The part of a step that is searched at a time."""

    start: Float[Array, ""]
    width: Float[Array, ""]
    points: Float[Array, "points n"]
    done: Bool[Array, ""]


def suspects(
    sample: Callable[[Array], tuple[Array, Array]],
    end: Float[Array, " n"],
    rounding: Float[Array, " n"],
    begin: Float[Array, ""],
    nodes: int,
) -> Suspects:
    """Where the gap may reach 0, in the first part of the step after `begin` in which it may.

    `sample` gives the gap along the dense output and its slope at a point in [0, 1]; `end` is the
    gap of the step map at 1; `rounding` is what the gaps are rounded to.

    The step is cut into pieces, and in each of them the gap is a cubic with its values and slopes
    at the nodes. Every second node checks the cubic through its neighbours. The difference e,
    which bounds the error of the finer pieces while the fourth derivative hardly changes within
    two of them, must be small, or the search goes on in one half of the window. A neuron is
    suspect at each node and at each minimum of the cubic at which the gap is at most e.
    """
    units = jnp.asarray(_units(nodes), end.dtype)
    rows = 2 * len(units) - 2

    def body(window: _Window) -> _Window:
        shares = window.start + window.width * units
        gaps, slopes = jax.vmap(sample)(shares)
        following = window.start + window.width
        gaps = gaps.at[-1].set(jnp.where(following >= 1.0, end, gaps[-1]))
        points, agrees = _look(shares, gaps, slopes, rounding)
        good = jnp.all(agrees) | (window.width <= _SMALLEST_WINDOW)
        done = good & (jnp.any(points < jnp.inf) | (following >= 1.0))
        wider = jnp.minimum(2 * window.width, 1.0 - following)
        return _Window(
            start=jnp.where(good & ~done, following, window.start),
            width=jnp.where(good, jnp.where(done, window.width, wider), 0.5 * window.width),
            points=points,
            done=done,
        )

    nowhere = jnp.full((rows, *end.shape), jnp.inf, end.dtype)
    whole = _Window(begin, 1.0 - begin, nowhere, begin >= 1.0)
    last = lax.while_loop(lambda window: ~window.done, body, whole)
    return Suspects(last.points, last.start + last.width)


def _units(nodes: int) -> np.ndarray:
    """Nodes in [0, 1]: every second one checks the cubic through its neighbours."""
    coarse = np.linspace(0.0, 1.0, -(-nodes // 2) + 1)
    between = coarse[:-1] + _CHECK * np.diff(coarse)
    return np.sort(np.concatenate([coarse, between]))


def _look(shares, gaps, slopes, rounding):
    """In one window: the suspects, and whether the cubics agree."""
    coarse = _Cubic.between(shares[::2], gaps[::2], slopes[::2])
    error = jnp.max(jnp.abs(coarse(_CHECK) - gaps[1::2]), axis=0)
    size = jnp.max(jnp.abs(gaps), axis=0)
    agrees = ~(error > _AGREEMENT * size + rounding)
    # Where the gap is not finite there is no cubic, and every node is suspect.
    error = jnp.where(jnp.isfinite(error), error, 0.0)

    fine = _Cubic.between(shares, gaps, slopes)
    start, width = shares[:-1, None], jnp.diff(shares)[:, None]
    lowest = fine.lowest()
    dips = jnp.where(fine(lowest) <= error, start + lowest * width, jnp.inf)
    ends = jnp.where(gaps[1:] > error, jnp.inf, shares[1:, None])
    return jnp.concatenate([dips, ends]), agrees


class _Cubic(NamedTuple):
    """Cubics in [0, 1], one for each piece and neuron, by their coefficients."""

    c0: Float[Array, "pieces n"]
    c1: Float[Array, "pieces n"]
    c2: Float[Array, "pieces n"]
    c3: Float[Array, "pieces n"]

    @classmethod
    def between(cls, at: Array, values: Array, slopes: Array) -> "_Cubic":
        """Those with these values and slopes at the nodes."""
        width = jnp.diff(at)[:, None]
        a, b, da, db = values[:-1], values[1:], slopes[:-1] * width, slopes[1:] * width
        return cls(a, da, 3 * (b - a) - 2 * da - db, 2 * (a - b) + da + db)

    def __call__(self, s: Array | float) -> Array:
        return self.c0 + s * (self.c1 + s * (self.c2 + s * self.c3))

    def lowest(self) -> Array:
        """Where the minimum inside of [0, 1] is; NaN if there is none."""
        square = self.c2 * self.c2 - 3 * self.c3 * self.c1
        below = self.c2 + jnp.sqrt(jnp.maximum(square, 0.0))
        s = -self.c1 / jnp.where(below == 0, jnp.nan, below)
        return jnp.where((square > 0) & (s > 0) & (s < 1), s, jnp.nan)


class _Hunt(NamedTuple):
    """Of each neuron: the suspects looked at so far, and the bracket once there is one."""

    at: Float[Array, " n"]  # looked at next
    busy: Bool[Array, " n"]
    before: Float[Array, " n"]  # the last suspect at which it had not crossed
    before_gap: Float[Array, " n"]
    caught: Bool[Array, " n"]
    bracket: "_Bracket"
    count: Int[Array, ""]


class _Bracket(NamedTuple):
    """Chandrupatla's three points: the newest, the end opposite of it, the one before."""

    x1: Float[Array, " n"]
    f1: Float[Array, " n"]
    x2: Float[Array, " n"]
    f2: Float[Array, " n"]
    x3: Float[Array, " n"]
    f3: Float[Array, " n"]

    def past(self) -> tuple[Array, Array]:
        """The end past the threshold, and the gap there."""
        newest = self.f1 <= 0
        return jnp.where(newest, self.x1, self.x2), jnp.where(newest, self.f1, self.f2)

    def shrunk(self, x: Array, f: Array) -> "_Bracket":
        """With another point inside."""
        same = (f <= 0) == (self.f1 <= 0)
        x3, f3 = jnp.where(same, self.x1, self.x2), jnp.where(same, self.f1, self.f2)
        x2, f2 = jnp.where(same, self.x2, self.x1), jnp.where(same, self.f2, self.f1)
        return _Bracket(x, f, x2, f2, x3, f3)

    def next(self, tolerance: Array) -> Array:
        """Inverse quadratic interpolation where it is safe, else the middle."""
        x1, f1, x2, f2, x3, f3 = self
        fresh = x3 == x2
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        safe = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi)
        quadratic = f1 / (f2 - f1) * (f3 / (f2 - f3))
        quadratic += (x3 - x1) / (x2 - x1) * (f1 / (f3 - f1)) * (f2 / (f3 - f2))
        share = jnp.where(safe, quadratic, jnp.where(fresh, f1 / (f1 - f2), 0.5))
        least = 0.5 * tolerance / jnp.abs(x2 - x1)
        share = jnp.clip(jnp.where(jnp.isfinite(share), share, 0.5), least, 1 - least)
        return x1 + share * (x2 - x1)


def first_roots(
    gap: Callable[[Array], Array],
    start: Float[Array, " n"],
    found: Suspects,
    length: Float[Array, " n"],
) -> Float[Array, " n"]:
    """When each neuron first crosses, to rounding, at or after the root; inf if it does not.

    `gap` is that of the step map, at a time for each neuron, and `start` is the gap at 0, which
    is positive for a neuron that has not crossed. The suspects are looked at in order of time,
    until the gap is not positive; in
    this bracket Chandrupatla's method finds the root (Adv. Eng. Softw. 28:145, 1997), whatever
    the form of the gap: it interpolates where it can, and bisects where it cannot.
    """
    points = jnp.where(length > 0, found.points * length, jnp.inf)
    eps = jnp.finfo(start.dtype).eps

    def tolerance(bracket):
        return eps * (2 * jnp.maximum(jnp.abs(bracket.x1), jnp.abs(bracket.x2)) + eps * length)

    def after(t):
        return jnp.min(jnp.where(points > t, points, jnp.inf), axis=0)

    def body(hunt: _Hunt) -> _Hunt:
        t = hunt.at
        f = gap(jnp.where(hunt.busy, t, 0.0))
        f = jnp.where(jnp.isnan(f), -jnp.inf, f)
        looks = hunt.busy & ~hunt.caught
        hits, misses = looks & (f <= 0), looks & (f > 0)
        new = _Bracket(t, f, hunt.before, hunt.before_gap, hunt.before, hunt.before_gap)
        smaller = _select(hunt.busy & hunt.caught, hunt.bracket.shrunk(t, f), hunt.bracket)
        bracket = _select(hits, new, smaller)
        caught = hunt.caught | hits
        close = tolerance(bracket)
        wide = (jnp.abs(bracket.x2 - bracket.x1) > close) & (bracket.f1 != 0)
        at = jnp.where(caught, bracket.next(close), after(t))
        return _Hunt(
            at=at,
            busy=hunt.busy & jnp.where(caught, wide, at < jnp.inf),
            before=jnp.where(misses, t, hunt.before),
            before_gap=jnp.where(misses, f, hunt.before_gap),
            caught=caught,
            bracket=bracket,
            count=hunt.count + 1,
        )

    def more(hunt: _Hunt):
        return jnp.any(hunt.busy) & (hunt.count < _MAX_ITERATIONS)

    zero = jnp.zeros_like(start)
    at = after(-zero - 1)
    none = zero < 0
    begin = _Hunt(
        at,
        at < jnp.inf,
        zero,
        start,
        none,
        _Bracket(*(zero,) * 6),
        jnp.zeros((), jnp.int32),
    )
    end = lax.while_loop(more, body, begin)
    time, value = end.bracket.past()
    return jnp.where(end.caught & jnp.isfinite(value), time, jnp.inf)


def _select(which: Array, new: _Bracket, old: _Bracket) -> _Bracket:
    return _Bracket(*(jnp.where(which, a, b) for a, b in zip(new, old, strict=True)))
