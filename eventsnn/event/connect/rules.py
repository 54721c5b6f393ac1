"""Connections at random, independent of positions."""

import math
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ... import checks
from .populations import Connections, Population, generator, without_self


def fixed_in_degree(
    key: PRNGKeyArray,
    sources: Population,
    targets: Population,
    degree: int,
    *,
    self_connections: bool = False,
    multapses: bool = False,
) -> Connections:
    """Connect each target to the same number of sources, which are drawn at random.

    This is the rule `fixed_indegree` of NEST, and that of Brunel, Journal of Computational
    Neuroscience 8:183-208, 2000. All sources have the same probability.

    **Arguments:**

    - `key`: random key.
    - `sources`, `targets`: populations.
    - `degree`: number of synapses to each target, >= 1.
    - `self_connections`: whether a neuron may be its own source; False by default.
    - `multapses`: whether sources are drawn with replacement, so that a pair may have several
        synapses; False by default.

    **Raises:** `ValueError` for an argument out of range, or a `degree` that is larger than the
    number of possible sources, without multapses.
    """
    rng = generator(key)
    pre, post = checks.population("sources", sources), checks.population("targets", targets)
    degree = checks.count("degree", degree)
    allowed = checks.flag("self_connections", self_connections)
    own = np.full(len(post), len(pre)) if allowed else _places(post, pre)
    replace = checks.flag("multapses", multapses)
    drawn = np.empty((len(post), degree), np.int32)
    for is_source in (False, True):  # a target that is a source has one other source less
        rows = np.flatnonzero((own < len(pre)) == is_source)
        n = len(pre) - is_source
        if rows.size and (n == 0 or (degree > n and not replace)):
            expected = f"at most the number of possible sources, which is {n}"
            raise checks.value_error("degree", degree, expected)
        if rows.size:
            size = (rows.size, degree)
            drawn[rows] = _integers(rng, n, size) if replace else _subsets(rng, n, size)
    drawn += drawn >= own[:, None]
    return Connections(pre[drawn.reshape(-1)], np.repeat(post, degree))


def _places(values: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Index of each value in an array of distinct numbers; its length for a value not in it."""
    order = np.argsort(within)
    place = np.searchsorted(within, values, sorter=order)
    found = order[np.minimum(place, len(within) - 1)]
    return np.where(within[found] == values, found, len(within))


def _integers(rng: np.random.Generator, n: int, size: Any) -> np.ndarray:
    return rng.integers(0, n, size, dtype=np.int32)


def _subsets(rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    """Draw sets of distinct numbers in 0 ... n - 1, one per row; all sets are equally likely.

    Repeated numbers are drawn again. A set of more than half of the numbers is drawn as those that
    are left out, so that a number is new with a probability of at least one half.
    """
    rows, count = size
    if 2 * count > n:
        kept = np.ones((rows, n), bool)
        np.put_along_axis(kept, _subsets(rng, n, (rows, n - count)), False, axis=1)
        return np.nonzero(kept)[1].reshape(size)
    drawn = np.sort(_integers(rng, n, size), axis=1)
    unfinished = np.arange(rows)
    while unfinished.size:
        part = drawn[unfinished]
        repeated = part[:, 1:] == part[:, :-1]
        part[:, 1:][repeated] = _integers(rng, n, np.count_nonzero(repeated))
        part.sort(axis=1)
        drawn[unfinished] = part
        unfinished = unfinished[repeated.any(axis=1)]
    return drawn


def fixed_probability(
    key: PRNGKeyArray,
    sources: Population,
    targets: Population,
    probability: float,
    *,
    self_connections: bool = False,
) -> Connections:
    """Connect each pair of a source and a target independently, with the same probability.

    This is the rule `pairwise_bernoulli` of NEST. With probability 1 all pairs are connected.

    **Arguments:**

    - `key`: random key.
    - `sources`, `targets`: populations.
    - `probability`: probability of a synapse, in [0, 1].
    - `self_connections`: whether a neuron may be its own source; False by default.

    **Raises:** `ValueError` for an argument out of range.
    """
    rng = generator(key)
    pre, post = checks.population("sources", sources), checks.population("targets", targets)
    p = checks.number("probability", probability, "a number in [0, 1]", lambda p: 0 <= p <= 1)
    allowed = checks.flag("self_connections", self_connections)
    row, column = np.divmod(_successes(rng, len(pre) * len(post), p), len(post))
    return without_self(pre[row], post[column], allowed)


def _successes(rng: np.random.Generator, trials: int, p: float) -> np.ndarray:
    """Indices of the successes of independent trials, from the gaps between them."""
    parts, last = [np.zeros(0, np.int64)], -1
    while p > 0 and last < trials:
        expected = (trials - last) * p
        gaps = rng.geometric(p, int(expected + 4 * math.sqrt(expected)) + 16)
        # Gaps are limited, so that only sums beyond the first one outside can overflow.
        found = last + np.cumsum(np.minimum(gaps, trials + 1))
        outside = found >= trials
        if outside.any():
            parts.append(found[: np.argmax(outside)])
            break
        parts.append(found)
        last = int(found[-1])
    return np.concatenate(parts)
