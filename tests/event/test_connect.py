"""Random and regular connections: degrees, ranges, probabilities, seeds and errors."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import connect
from eventsnn.event.connect import space

KEY = jax.random.key(0)


def pairs(connections):
    return list(zip(*(x.tolist() for x in connections), strict=True))


def z_score(counts, trials, p):
    """Deviation of a sum of binomial counts from its mean, in standard deviations."""
    total = np.size(counts) * trials
    return (np.sum(counts) - total * p) / math.sqrt(total * p * (1 - p))


def chi_square(counts, expected):
    """Excess of the chi-square statistic over its mean, in standard deviations."""
    counts = np.asarray(counts)
    degrees = counts.size - 1
    return (np.sum((counts - expected) ** 2 / expected) - degrees) / math.sqrt(2 * degrees)


# ------------------------------------------------------------------ fixed in-degree


@pytest.mark.parametrize("degree", [1, 4, 15, 19])
def test_fixed_in_degree(degree):
    """Sources 5 ... 24, targets 0 ... 9: some targets are sources."""
    found = connect.fixed_in_degree(KEY, range(5, 25), 10, degree)
    assert found.sources.dtype == found.targets.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(found.targets), np.full(10, degree))
    assert set(found.sources.tolist()) <= set(range(5, 25))
    assert len(set(pairs(found))) == found.n_synapses == 10 * degree
    assert not np.any(found.sources == found.targets)


def test_all_sources():
    sources = [7, 2, 9]
    everything = connect.fixed_in_degree(KEY, sources, range(3, 7), 3)
    assert sorted(pairs(everything)) == sorted(itertools.product(sources, range(3, 7)))
    found = connect.fixed_in_degree(KEY, sources, [2, 9], 2)
    assert sorted(pairs(found)) == [(2, 9), (7, 2), (7, 9), (9, 2)]
    found = connect.fixed_in_degree(KEY, sources, [2, 9], 3, self_connections=True)
    assert sorted(pairs(found)) == sorted(itertools.product(sources, [2, 9]))


@pytest.mark.parametrize(("degree", "own"), [(2, False), (5, False), (2, True), (5, True)])
def test_all_sets_of_sources_are_equally_likely(degree, own):
    """Seven sources; 20,000 targets that are no sources, or one that is, in 3,000 draws."""
    if own:
        keys = jax.random.split(KEY, 3000)
        drawn = [connect.fixed_in_degree(k, 8, [3], degree).sources for k in keys]
    else:
        found = connect.fixed_in_degree(KEY, 7, range(10, 20_010), degree)
        drawn = found.sources.reshape(-1, degree)
    names = [tuple(sorted(row)) for row in np.asarray(drawn).tolist()]
    possible = itertools.combinations(
        [i for i in range(8 if own else 7) if i != 3 or not own], degree
    )
    counts = [names.count(one) for one in possible]
    assert len(counts) == 21 and sum(counts) == len(names)
    assert abs(chi_square(counts, len(names) / 21)) < 5


def test_multapses():
    found = connect.fixed_in_degree(KEY, 6, 400, 50, multapses=True)
    np.testing.assert_array_equal(np.bincount(found.targets), np.full(400, 50))
    assert not np.any(found.sources == found.targets)
    later = found.targets >= 6
    counts = np.bincount(found.sources[later], minlength=6)
    assert abs(chi_square(counts, np.sum(later) / 6)) < 5
    loops = connect.fixed_in_degree(KEY, 6, 6, 50, multapses=True, self_connections=True)
    assert np.any(loops.sources == loops.targets)


# ------------------------------------------------------------------ fixed probability


def test_fixed_probability():
    p, (rows, columns) = 0.1, (300, 200)
    found = connect.fixed_probability(KEY, rows, range(100, 300), p, self_connections=True)
    matrix = np.zeros((rows, columns))
    matrix[found.sources, found.targets - 100] = 1
    assert matrix.sum() == found.n_synapses  # no pair twice
    assert abs(z_score(matrix.sum(0), rows, p)) < 5
    assert abs(chi_square(matrix.sum(0), rows * p) / (1 - p)) < 5
    assert abs(chi_square(matrix.sum(1), columns * p) / (1 - p)) < 5
    both = (matrix[:, 1:] * matrix[:, :-1]).sum(1)  # neighbours are independent
    assert abs(z_score(both, columns - 1, p**2)) < 5
    order = found.sources * 1000 + found.targets
    assert np.all(np.diff(order) > 0)


def test_every_pair_has_the_probability():
    """Also the first one and the last one, in 400 draws of a few pairs."""
    keys = jax.random.split(KEY, 400)
    counts = np.zeros((3, 2))
    for key in keys:
        found = connect.fixed_probability(key, 3, range(5, 7), 0.3)
        counts[found.sources, found.targets - 5] += 1
    assert np.max(np.abs(counts - 120)) < 5 * math.sqrt(400 * 0.3 * 0.7)


def test_probabilities_at_the_bounds():
    assert connect.fixed_probability(KEY, 9, 9, 0).n_synapses == 0
    everything = connect.fixed_probability(KEY, 3, range(2, 4), 1)
    assert pairs(everything) == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    some = connect.fixed_probability(KEY, 2_000_000, 1_000_000, 5e-11)
    assert 50 < some.n_synapses < 150 and some.sources.max() > 1_000_000
    assert connect.fixed_probability(KEY, 2_000_000, 1_000_000, 1e-300).n_synapses == 0


# ------------------------------------------------------------------ one to one, and distances


def test_one_to_one():
    assert pairs(connect.one_to_one(3)) == [(0, 0), (1, 1), (2, 2)]
    assert pairs(connect.one_to_one(range(7, 9))) == [(7, 0), (8, 1)]
    assert pairs(connect.one_to_one([4, 2], np.array([1, 5]))) == [(4, 1), (2, 5)]


@pytest.mark.parametrize("period", [None, 1.0, (1.0, 2.0)])
def test_pairs_within_a_distance(period, monkeypatch):
    """The same pairs as by all distances; positions outside the period are wrapped."""
    monkeypatch.setattr(space, "_BLOCK", 20)
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 2, (20, 2)), rng.uniform(-1, 2, (30, 2))
    a[0] = -1e-20
    gap = np.abs(a[:, None] - b[None])
    if period is not None:
        gap = np.minimum(gap % period, period - gap % period)
    distance = np.sqrt(np.sum(gap**2, -1))
    seen = []

    def near(d):
        seen.append(d)
        return d < 0.4

    options = {"sources": range(100, 120), "targets": range(7, 37), "period": period}
    for largest in (None, 0.5):
        found = connect.distance_dependent(KEY, a, b, near, max_distance=largest, **options)
        expected = np.add(np.argwhere(distance < 0.4), [100, 7])
        assert sorted(pairs(found)) == [tuple(pair) for pair in expected.tolist()]
        assert len(seen) > 1
        within = distance[distance <= (largest or math.inf)]
        np.testing.assert_allclose(np.sort(np.concatenate(seen)), np.sort(within), rtol=1e-9)
        seen.clear()


def test_the_probability_depends_on_the_distance():
    x = np.linspace(0, 1, 500)[:, None]
    found = connect.distance_dependent(KEY, x, x, lambda d: 0.6 * jnp.exp(-3 * d))
    assert not np.any(found.sources == found.targets)
    assert len(set(pairs(found))) == found.n_synapses
    steps = np.bincount(np.abs(found.sources - found.targets), minlength=500)[1:]
    trials = 2 * (500 - np.arange(1, 500))
    p = 0.6 * np.exp(-3 * np.arange(1, 500) / 499)
    z = (steps - trials * p) / np.sqrt(trials * p * (1 - p))
    assert abs(z.sum()) < 5 * math.sqrt(499) and abs(np.sum(z**2) - 499) < 5 * math.sqrt(2 * 499)
    loops = connect.distance_dependent(KEY, x, x, lambda d: 1.0, self_connections=True)
    assert loops.n_synapses == 500**2


# ------------------------------------------------------------------ all of them

DRAWS = {
    "degree": lambda key: connect.fixed_in_degree(key, 50, 40, 5),
    "probability": lambda key: connect.fixed_probability(key, 50, 40, 0.1),
    "distance": lambda key: connect.distance_dependent(
        key, np.ones((50, 1)), np.ones((40, 1)), lambda d: 0.1
    ),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_connections_depend_on_the_key_only(draw):
    first = pairs(draw(KEY))
    assert pairs(draw(jax.random.key(0))) == pairs(draw(jax.random.PRNGKey(0))) == first
    assert pairs(draw(jax.random.key(1))) != first
    assert pairs(draw(jax.random.fold_in(KEY, 1))) != first
    under_jit = []
    jax.jit(lambda: under_jit.extend(pairs(draw(KEY))))()
    assert under_jit == first
    with pytest.raises(ValueError, match=r"^key must be one jax.random key, not traced by JAX"):
        jax.jit(lambda key: draw(key).n_synapses)(KEY)


def test_the_example_of_a_balanced_network():
    (code,) = re.findall(r"```python\n(.*?)```", connect.__doc__, re.DOTALL)
    for large, small in (
        ("8_000", "80"),
        ("2_000", "20"),
        ("500", "5"),
        ("800)", "16)"),
        ("200)", "4)"),
    ):
        assert large in code
        code = code.replace(large, small)
    names = {"esn": esn, "jax": jax, "np": np}
    exec(code, names)
    synapses, weights = names["synapses"], names["weights"]
    assert synapses.shape == (105, 100) and synapses.n_inputs == 5
    matrix = np.asarray(synapses.to_dense())
    assert set(weights.tolist()) == {0.1, -0.5, 0.4}
    assert np.all(np.sum(matrix[:80] > 0, 0) == 16) and np.all(np.sum(matrix[80:100] < 0, 0) == 4)
    assert np.all(matrix[:80] >= 0) and np.all(matrix[80:100] <= 0) and np.any(matrix[100:] == 0.4)
    assert synapses.axonal and np.all(np.asarray(synapses.delays) == 1.5)


def test_values_are_joined_like_connections():
    one, other = connect.one_to_one(3), connect.fixed_in_degree(KEY, range(3, 6), 3, 2)
    both = connect.join([one, other])
    assert pairs(both) == pairs(one) + pairs(other)
    assert both.n_synapses == one.n_synapses + other.n_synapses == 9
    weights = np.concatenate([np.ones(3), np.arange(6.0)])
    synapses = esn.Synapses(*both, weights, (6, 3))
    assert np.asarray(synapses.to_dense())[3:].sum() == 15


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            r"degree must be at most .* which is 4, got 5\.",
            lambda: connect.fixed_in_degree(KEY, 5, 5, 5),
        ),
        (
            r"degree must be at most .* which is 0, got 1\.",
            lambda: connect.fixed_in_degree(KEY, 1, 1, 1, multapses=True),
        ),
        (
            r"probability must be a number in \[0, 1\], got 1\.5",
            lambda: connect.fixed_probability(KEY, 5, 5, 1.5),
        ),
        (
            r"sources and targets must be .* same size, got 3 and 4",
            lambda: connect.one_to_one(3, 4),
        ),
        (
            r"targets must be .*distinct indices.*, got \[1, 1\]",
            lambda: connect.one_to_one(2, [1, 1]),
        ),
        (r"sources must be .*at least one, got ", lambda: connect.one_to_one(range(0))),
        (
            r"positions_from and positions_to must have the same number of dimensions, got 1 and 2",
            lambda: connect.distance_dependent(KEY, np.ones((3, 1)), np.ones((3, 2)), lambda d: d),
        ),
        (
            r"probability_of_distance must be .*, got 2\.0 at the distance 1\.0",
            lambda: connect.distance_dependent(KEY, [[0.0]], [[1.0]], lambda d: 2 * d),
        ),
        (
            r"probability_of_distance must be .*, got shape \(2,\) for distances of shape \(1,\)",
            lambda: connect.distance_dependent(KEY, [[0.0]], [[1.0]], lambda d: np.ones(2)),
        ),
        (
            r"targets must have 1 neurons, as positions_to, got 2",
            lambda: connect.distance_dependent(KEY, [[0.0]], [[1.0]], lambda d: d, targets=2),
        ),
    ],
)
def test_errors(message, call):
    with pytest.raises(ValueError, match="^" + message):
        call()
