"""Connections at random, which depend on the positions of neurons."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray, Real

from ... import checks
from .populations import Connections, Population, generator, join, without_self

# Pairs of neurons whose distances are computed together.
_BLOCK = 2**22


def distance_dependent(
    key: PRNGKeyArray,
    positions_from: Real[ArrayLike, "sources dimensions"] | Sequence,
    positions_to: Real[ArrayLike, "targets dimensions"] | Sequence,
    probability_of_distance: Callable[[Any], Any],
    *,
    sources: Population | None = None,
    targets: Population | None = None,
    max_distance: float | None = None,
    period: Real[ArrayLike, "*dimensions"] | Sequence | None = None,
    self_connections: bool = False,
) -> Connections:
    """Connect each pair independently, with a probability that depends on its distance.

    ```python
    positions = jax.random.uniform(key_positions, (10_000, 2))
    esn.connect.distance_dependent(
        key, positions, positions, lambda d: 0.8 * jnp.exp(-d / 0.05), max_distance=0.3, period=1.0
    )
    ```

    The time is proportional to the number of pairs within `max_distance`.

    **Arguments:**

    - `key`: random key.
    - `positions_from`, `positions_to`: positions of the sources and of the targets, shapes
        `(sources, dimensions)` and `(targets, dimensions)`.
    - `probability_of_distance`: function from an array of Euclidean distances, in the unit of the
        positions, to the probabilities of a synapse, of the same shape.
    - `sources`, `targets`: populations of these sizes. Default: None, neurons 0, 1, ...
    - `max_distance`: largest distance of a synapse. Default: None, any distance.
    - `period`: period of space, one number, or one per dimension: the distance is the shortest of
        those on a torus, and neurons at opposite edges are neighbours. Default: None, not periodic.
    - `self_connections`: whether a neuron may be its own source; False by default.

    **Raises:** `ValueError` for an argument out of range, numbers of dimensions or of neurons that
    do not fit each other, or a function that does not return probabilities.
    """
    rng = generator(key)
    a, b = _positions(positions_from, positions_to)
    checks.function("probability_of_distance", probability_of_distance)
    pre = _population_of("sources", sources, "positions_from", len(a))
    post = _population_of("targets", targets, "positions_to", len(b))
    reach = math.inf if max_distance is None else checks.not_negative("max_distance", max_distance)
    box = None if period is None else _period(period, a.shape[1])
    allowed, parts = checks.flag("self_connections", self_connections), []
    for i, j, distance in _nearby(a, b, reach, box):
        p = _probabilities(probability_of_distance, distance)
        drawn = rng.random(p.shape) < p
        parts.append(without_self(pre[i[drawn]], post[j[drawn]], allowed))
    return join(parts)


def _nearby(
    a: np.ndarray, b: np.ndarray, reach: float, period: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield indices and distances of the pairs within reach, a block of sources at a time."""
    from scipy.spatial import KDTree

    if period is not None:
        a, b = (np.where(x < period, x, 0.0) for x in (a % period, b % period))  # -1e-20 % 1 is 1
    tree = KDTree(b, boxsize=period)
    pairs = np.cumsum(tree.query_ball_point(a, reach, return_length=True))
    cuts = np.searchsorted(pairs, np.arange(_BLOCK, pairs[-1], _BLOCK), side="right")
    for block in np.split(np.arange(len(a)), np.unique(cuts)):
        if block.size:
            some = KDTree(a[block], boxsize=period)
            near = some.sparse_distance_matrix(tree, reach, output_type="ndarray")
            yield block[near["i"]], near["j"], near["v"]


def _positions(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = checks.positions("positions_from", a), checks.positions("positions_to", b)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            "positions_from and positions_to must have the same number of dimensions, "
            f"got {x.shape[1]} and {y.shape[1]}."
        )
    return x, y


def _population_of(name: str, value: Any, positions: str, n: int) -> np.ndarray:
    """Population with one neuron per position."""
    found = checks.population(name, n if value is None else value)
    if len(found) != n:
        raise ValueError(f"{name} must have {n} neurons, as {positions}, got {len(found)}.")
    return found


def _period(value: Any, dimensions: int) -> np.ndarray:
    x = checks.within("period", value, checks.POSITIVE)
    if x.shape not in ((), (dimensions,)):
        raise ValueError(f"period must be a number or {dimensions} numbers, got shape {x.shape}.")
    return np.broadcast_to(np.asarray(x, float), (dimensions,))


def _probabilities(function: Callable[[Any], Any], distance: np.ndarray) -> np.ndarray:
    """Values of a function of the distance, as a NumPy array. Raise unless they are in [0, 1]."""
    expected = "a function that returns probabilities, one per distance"
    p = checks.numbers("probability_of_distance", function(distance), expected, boolean=True)
    if p.shape not in ((), distance.shape):
        given = f"{p.shape} for distances of shape {distance.shape}"
        raise ValueError(f"probability_of_distance must be {expected}, got shape {given}.")
    p = np.broadcast_to(np.asarray(p, float), distance.shape)
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        found = f"{p[bad][0]} at the distance {distance[bad][0]}"
        raise ValueError(f"probability_of_distance must be {expected}, in [0, 1], got {found}.")
    return p
