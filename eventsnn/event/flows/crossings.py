"""First crossing within one step of a solver: candidate points, and the root of the step map.

All arrays are those of one sample, and the last axis is the neuron. There are two ways to evaluate
the gap within a step. The solver's dense output is cheap. The step map, the state after one step of
size t, defines the result of the simulation. The dense output gives the candidate points
("candidates"), and the step map decides.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..models import anywhere

#: Position of the check within a piece between two nodes: the golden section, so that no
#: oscillation of the gap is in phase with the nodes.
_CHECK = 0.5 * (3.0 - 5.0**0.5)

#: Tolerated difference between the cubic through the nodes and the gap, relative to the gap.
_AGREEMENT = 1e-3

_SMALLEST_INTERVAL = 2.0**-16

_MAX_ITERATIONS = 500


class Candidates(NamedTuple):
    """Candidate points of a step: points at which a neuron may be past its threshold.

    They are in units of the step's length, in any order, and padded with inf. The step has been
    searched up to `upto`.
    """

    points: Float[Array, "points n"]
    upto: Float[Array, ""]


class _Interval(NamedTuple):
    """Interval of a step that is searched at once, and its candidate points."""

    start: Float[Array, ""]
    width: Float[Array, ""]
    points: Float[Array, "points n"]
    done: Bool[Array, ""]


def candidates(
    sample: Callable[[Array], tuple[Array, Array]],
    armed: Bool[Array, " n"],
    end: Float[Array, " n"],
    rounding: Float[Array, " n"],
    begin: Float[Array, ""],
    nodes: int,
) -> Candidates:
    """Find the candidate points at which the gap may reach 0.

    The search ends with the first part of the step after `begin` that has candidate points.

    `sample` returns the gap along the dense output and its slope at a point in [0, 1]. `end` is
    the gap of the step map at 1, and `rounding` is the rounding error of the gaps. A neuron that is
    not `armed` starts past its threshold.

    The step is cut into pieces. In each piece the gap is approximated by the cubic with the values
    and slopes of the gap at the nodes. Every second node checks the cubic through its neighbours.
    The difference e bounds the error of the finer pieces, as long as the fourth derivative hardly
    changes within two of them. If e is not small, the search continues in one half of the interval.
    The candidates of a neuron are the nodes and the minima of the cubics at which the gap is at
    most e.
    """
    units = jnp.asarray(_units(nodes), end.dtype)
    rows = 2 * len(units) - 1

    def body(interval: _Interval) -> _Interval:
        fractions = interval.start + interval.width * units
        gaps, slopes = jax.vmap(sample)(fractions)
        following = interval.start + interval.width
        gaps = gaps.at[-1].set(jnp.where(following >= 1.0, end, gaps[-1]))
        points, agrees = _search_interval(fractions, gaps, slopes, armed, rounding)
        good = jnp.all(agrees) | (interval.width <= _SMALLEST_INTERVAL)
        done = good & (jnp.any(points < jnp.inf) | (following >= 1.0))
        wider = jnp.minimum(2 * interval.width, 1.0 - following)
        return _Interval(
            start=jnp.where(good & ~done, following, interval.start),
            width=jnp.where(good, jnp.where(done, interval.width, wider), 0.5 * interval.width),
            points=points,
            done=done,
        )

    nowhere = jnp.full((rows, *end.shape), jnp.inf, end.dtype)
    whole = _Interval(begin, 1.0 - begin, nowhere, begin >= 1.0)
    last = lax.while_loop(lambda interval: ~interval.done, body, whole)
    return Candidates(last.points, last.start + last.width)


def may_fall(
    sample: Callable[[Array], tuple[Array, Array]], end: Float[Array, " n"], nodes: int
) -> Bool[Array, " n"]:
    """Mask of the gaps that may reach 0 within a step; the arguments are those of `candidates`.

    It includes the gaps with candidate points, those that come close to 0 at a node, and those for
    which the nodes are too far apart.
    """
    units = jnp.asarray(_units(nodes), end.dtype)
    gaps, slopes = jax.vmap(sample)(units)
    gaps = gaps.at[-1].set(end)
    armed, rounding = jnp.ones_like(end, bool), jnp.zeros_like(end)
    points, agrees = _search_interval(units, gaps, slopes, armed, rounding)
    close = ~(jnp.min(gaps, axis=0) > _AGREEMENT * jnp.max(jnp.abs(gaps), axis=0))
    return ~agrees | close | jnp.any(points < jnp.inf, axis=0)


def _units(nodes: int) -> np.ndarray:
    """Nodes in [0, 1]. Every second node checks the cubic through its neighbours."""
    coarse = np.linspace(0.0, 1.0, -(-nodes // 2) + 1)
    between = coarse[:-1] + _CHECK * np.diff(coarse)
    return np.sort(np.concatenate([coarse, between]))


def _search_interval(fractions, gaps, slopes, armed, rounding):
    """Return the candidate points of one interval, and whether the cubics agree with the gaps."""
    coarse = _Cubic.between(fractions[::2], gaps[::2], slopes[::2])
    error = jnp.max(jnp.abs(coarse(_CHECK) - gaps[1::2]), axis=0)
    size = jnp.max(jnp.abs(gaps), axis=0)
    agrees = ~(error > _AGREEMENT * size + rounding)
    # Where the gap is not finite there is no cubic, and every node is a candidate.
    error = jnp.where(jnp.isfinite(error), error, 0.0)

    fine = _Cubic.between(fractions, gaps, slopes)
    start, width = fractions[:-1, None], jnp.diff(fractions)[:, None]
    lowest, highest = fine.extrema()
    dips = jnp.where(fine(lowest) <= error, start + lowest * width, jnp.inf)
    ends = jnp.where(gaps[1:] > error, jnp.inf, fractions[1:, None])
    points = jnp.concatenate([dips, ends])

    # A neuron that starts past its threshold cannot cross it before it has returned below it.
    tops = jnp.where(fine(highest) > error, start + highest * width, jnp.inf)
    above = jnp.where(gaps > error, fractions[:, None], jnp.inf)
    back = jnp.min(jnp.concatenate([tops, above]), axis=0)
    points = jnp.where(armed | (points > back), points, jnp.inf)
    back = jnp.where(~armed & jnp.any(points < jnp.inf, axis=0), back, jnp.inf)
    return jnp.concatenate([points, back[None]]), agrees


class _Cubic(NamedTuple):
    """Coefficients of cubics on [0, 1], one cubic per piece and neuron."""

    c0: Float[Array, "pieces n"]
    c1: Float[Array, "pieces n"]
    c2: Float[Array, "pieces n"]
    c3: Float[Array, "pieces n"]

    @classmethod
    def between(cls, at: Array, values: Array, slopes: Array) -> "_Cubic":
        """Return the cubics with these values and slopes at the nodes."""
        width = jnp.diff(at)[:, None]
        a, b, da, db = values[:-1], values[1:], slopes[:-1] * width, slopes[1:] * width
        return cls(a, da, 3 * (b - a) - 2 * da - db, 2 * (a - b) + da + db)

    def __call__(self, s: Array | float) -> Array:
        return self.c0 + s * (self.c1 + s * (self.c2 + s * self.c3))

    def extrema(self) -> tuple[Array, Array]:
        """Return the positions of the minimum and the maximum inside [0, 1]; NaN for none."""
        square = self.c2 * self.c2 - 3 * self.c3 * self.c1
        root = jnp.sqrt(jnp.maximum(square, 0.0))
        both = []
        for below in (self.c2 + root, self.c2 - root):
            s = -self.c1 / jnp.where(below == 0, jnp.nan, below)
            both.append(jnp.where((square > 0) & (s > 0) & (s < 1), s, jnp.nan))
        return both[0], both[1]


class Gap(NamedTuple):
    """Gap of the step map, and whether the neuron passes its threshold there.

    See `flows.threshold`.
    """

    value: Float[Array, " n"]
    passes: Bool[Array, " n"]

    def open(self, waits: Array) -> Array:
        """Return the gap, made positive where the neuron has not crossed its threshold.

        A neuron that `waits` is at its threshold or past it, and crosses as soon as it passes.
        """
        stays = (self.value <= 0) & ~self.passes & (waits | (self.value == 0))
        return jnp.where(stays, jnp.finfo(self.value.dtype).tiny - self.value, self.value)


class _Search(NamedTuple):
    """Search of each neuron: through the candidate points, then within a bracket."""

    at: Float[Array, " n"]  # next point to evaluate
    active: Bool[Array, " n"]
    armed: Bool[Array, " n"]  # has not crossed at `before`
    waits: Bool[Array, " n"]  # is at its threshold or past it, and has not crossed
    before: Float[Array, " n"]  # last candidate with a positive gap
    before_gap: Float[Array, " n"]
    candidate: Float[Array, " n"]  # last candidate evaluated
    bracketed: Bool[Array, " n"]  # there is a bracket
    passes: Bool[Array, " n"]  # passes at the end of the bracket that is past the threshold
    bracket: "_Bracket"
    iterations: Int[Array, ""]

    def evaluated(self, here: Gap) -> "_Search":
        """Return the search with the gap at the point `at`."""
        t, f = self.at, here.open(self.waits)
        f = jnp.where(jnp.isnan(f), -jnp.inf, f)
        looks = self.active & ~self.bracketed
        hits, misses = looks & self.armed & (f <= 0), looks & (f > 0)
        new = _Bracket(t, f, self.before, self.before_gap, self.before, self.before_gap)
        shrinks = self.active & self.bracketed
        past = self.active & (f <= 0)
        return self._replace(
            armed=self.armed | misses,
            before=jnp.where(misses, t, self.before),
            before_gap=jnp.where(misses, f, self.before_gap),
            candidate=jnp.where(looks, t, self.candidate),
            bracketed=self.bracketed | hits,
            passes=jnp.where(past, here.passes | (f == -jnp.inf), self.passes),
            bracket=_select(hits, new, _select(shrinks, self.bracket.shrunk(t, f), self.bracket)),
            iterations=self.iterations + 1,
        )

    def moved(self, tolerance: Array, following: Array) -> "_Search":
        """Return the search at its next point; `following` is the next candidate.

        A neuron that does not pass at the end of its bracket waits, and the search returns to the
        candidate points.
        """
        x1, f1, x2, *_ = self.bracket
        wide = (jnp.abs(x2 - x1) > tolerance) & (f1 != 0)
        stays = self.active & self.bracketed & ~wide & ~self.passes
        at = jnp.where(self.bracketed, self.bracket.next(tolerance), following)
        return self._replace(
            at=jnp.where(stays, self.candidate, at),
            active=self.active & jnp.where(self.bracketed, wide | stays, at < jnp.inf),
            waits=self.waits | stays,
            bracketed=self.bracketed & ~stays,
        )


class _Bracket(NamedTuple):
    """Three points of Chandrupatla's method: the newest, the opposite end, and the one before."""

    x1: Float[Array, " n"]
    f1: Float[Array, " n"]
    x2: Float[Array, " n"]
    f2: Float[Array, " n"]
    x3: Float[Array, " n"]
    f3: Float[Array, " n"]

    def past(self) -> tuple[Array, Array]:
        """Return the end that is past the threshold, and the gap there."""
        newest = self.f1 <= 0
        return jnp.where(newest, self.x1, self.x2), jnp.where(newest, self.f1, self.f2)

    def shrunk(self, x: Array, f: Array) -> "_Bracket":
        """Return the smaller bracket, given the gap `f` at a point `x` inside."""
        same = (f <= 0) == (self.f1 <= 0)
        x3, f3 = jnp.where(same, self.x1, self.x2), jnp.where(same, self.f1, self.f2)
        x2, f2 = jnp.where(same, self.x2, self.x1), jnp.where(same, self.f2, self.f1)
        return _Bracket(x, f, x2, f2, x3, f3)

    def next(self, tolerance: Array) -> Array:
        """Return the next point to evaluate.

        It is given by inverse quadratic interpolation where this is safe, by the secant in a new
        bracket, and otherwise by bisection.
        """
        x1, f1, x2, f2, x3, f3 = self
        fresh = x3 == x2
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        safe = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi)
        quadratic = f1 / (f2 - f1) * (f3 / (f2 - f3))
        quadratic += (x3 - x1) / (x2 - x1) * (f1 / (f3 - f1)) * (f2 / (f3 - f2))
        fraction = jnp.where(safe, quadratic, jnp.where(fresh, f1 / (f1 - f2), 0.5))
        least = 0.5 * tolerance / jnp.abs(x2 - x1)
        fraction = jnp.clip(jnp.where(jnp.isfinite(fraction), fraction, 0.5), least, 1 - least)
        return x1 + fraction * (x2 - x1)


def first_roots(
    gap: Callable[[Array], Gap],
    start: Gap,
    found: Candidates,
    length: Float[Array, " n"],
) -> Float[Array, " n"]:
    """Time of each neuron's first crossing; inf for neurons that do not cross.

    The time is the root, or later by no more than rounding error. `gap` evaluates the gap of the
    step map at one time per neuron, and `start` is the gap at 0. The candidates are evaluated in
    order of time, until the gap is not positive and was positive before. In this bracket
    Chandrupatla's method (Adv. Eng. Softw. 28:145, 1997) finds the root for any form of the gap. It
    interpolates where possible, and bisects elsewhere. If the neuron does not pass at the root, the
    search continues until it passes.
    """
    points = jnp.where(length > 0, found.points * length, jnp.inf)
    eps = jnp.finfo(length.dtype).eps

    def after(t):
        return jnp.min(jnp.where(points > t, points, jnp.inf), axis=0)

    def body(search: _Search) -> _Search:
        following = after(search.at)
        search = search.evaluated(gap(jnp.where(search.active, search.at, 0.0)))
        size = jnp.maximum(jnp.abs(search.bracket.x1), jnp.abs(search.bracket.x2))
        return search.moved(eps * (2 * size + eps * length), following)

    def more(search: _Search):
        return anywhere(search.active) & (search.iterations < _MAX_ITERATIONS)

    zero = jnp.zeros_like(length)
    at, none = after(zero - 1), zero < 0
    waits = (start.value <= 0) & ~start.passes
    begin = _Search(
        at=at,
        active=at < jnp.inf,
        armed=(start.value > 0) | waits,
        waits=waits,
        before=zero,
        before_gap=start.open(waits),
        candidate=zero,
        bracketed=none,
        passes=none,
        bracket=_Bracket(*(zero,) * 6),
        iterations=jnp.zeros((), jnp.int32),
    )
    end = lax.while_loop(more, body, begin)
    time, value = end.bracket.past()
    return jnp.where(end.bracketed & jnp.isfinite(value), time, jnp.inf)


def _select(which: Array, new: _Bracket, old: _Bracket) -> _Bracket:
    return _Bracket(*(jnp.where(which, a, b) for a, b in zip(new, old, strict=True)))
