"""Benchmark `validation`: drawn networks, SciPy against closed forms, comparison and report."""

import math

import numpy as np
import pytest

from benchmarks.validation import benchmark, kinds, networks, ours, peer_scipy, trains
from benchmarks.validation.comparison import agreement, lateness, order, summary
from benchmarks.validation.equations import MODELS
from benchmarks.workers import files

TAUS = (10.0, 5.0)  # the second fires twice as often, at the times of the first as well
FORMS = ("matrix", "sparse")
KINDS = [kind for own in kinds.SPIKES.values() for kind in own.values()]
KINDS += [*kinds.POTENTIALS.values(), *kinds.CONVERGENCE.values()]


def test_networks_of_a_kind_have_the_same_shapes_and_are_drawn_again():
    for kind in KINDS:
        n = kind.sizes[0]
        made, again = (networks.draw(kind, n, range(3)) for _ in range(2))
        assert all(np.array_equal(made[name], again[name]) for name in made)
        mask, weights = made["mask"], made["weights"].reshape(3, n + kind.inputs, -1, n)
        assert len(set(np.count_nonzero(mask, axis=(1, 2)))) == 1
        assert np.all(mask.any(axis=2)) and not np.any(mask[:, range(n), range(n)])
        assert np.array_equal(np.all(weights != 0, axis=2), mask)
        assert made["in_times"].shape == (3, kind.inputs, kind.spikes)
        assert np.all((made["in_times"] >= 0.5) & (made["in_times"] <= kind.t_max))
        for name in {"delays", "period"} & set(made):
            steps = made[name] / networks.GRID
            assert np.array_equal(steps, np.round(steps)) and np.min(steps) >= 1
        assert not kind.on_grid or np.all(made["in_times"] % networks.GRID == 0)
        assert ("delays" in made, "period" in made) == (bool(kind.delays), bool(kind.periods))
        if made.get("delays") is not None:
            assert np.min(made["delays"], axis=tuple(range(1, made["delays"].ndim))).max() == 0.5


def test_signs_take_turns_over_the_seeds():
    made = networks.draw(networks.Kind("LIF", (6,), density=1.0), 6, range(6))
    signs = np.sign(made["weights"][:, :6])
    assert np.all(signs[[0, 3]] >= 0) and np.all(signs[[1, 4]] <= 0)
    for mixed in signs[[2, 5]]:  # a neuron excites or inhibits all its targets
        assert np.all((mixed >= 0).all(axis=1) | (mixed <= 0).all(axis=1))
    assert np.all(made["weights"][:, 6:] > 0)


def test_every_model_that_fires_is_compared():
    assert set(kinds._REGIMES) == set(MODELS) == set(ours.NEURONS) - {"LeakyIntegrator"}
    assert set(MODELS) | {"LeakyIntegrator"} == set(networks.RANGES)


def alone(model, period=0.0, t_max=100.0, **parameters):
    """Spikes of two neurons without input, with different time constants."""
    one = {f"neuron_{name}": np.full(2, value) for name, value in parameters.items()}
    one["neuron_tau_mem"] = np.array(TAUS)
    one |= {
        "mask": np.zeros((2, 2), bool),
        "weights": np.zeros((2, 2)),
        "period": np.full(2, period),
    }
    one["in_times"] = np.zeros((0, 0))
    times, sources = peer_scipy.simulate(model, one, t_max, 100)
    return [times[sources == i] for i in range(2)]


LIF = {"tau_syn": 3.0, "threshold": 1.0, "v_reset": 0.0, "bias": 1.5}


@pytest.mark.parametrize(
    ("model", "parameters", "first", "interval"),
    [
        ("LIF", LIF, math.log(3), math.log(3)),
        ("LIF, reset by subtraction", LIF, math.log(3), math.log(3)),
        ("ALIF", LIF | {"tau_adapt": 9.0, "beta": 0.0}, math.log(3), math.log(3)),
        # V = 1/2 + w tan(w t), with w^2 = bias - 1/4: from 0 to infinity, then from -infinity.
        ("QIF", {"tau_syn": 3.0, "bias": 1.25}, math.pi / 2 + math.atan(0.5), math.pi),
        ("Theta", {"bias": 1.25}, math.pi / 2 + math.atan(0.5), math.pi),
    ],
)
@pytest.mark.parametrize("period", [0.0, 2.5])
def test_scipy_finds_the_closed_form_of_regular_firing(model, parameters, first, interval, period):
    for times, tau in zip(alone(model, period, **parameters), TAUS, strict=True):
        expected = tau * first + (tau * interval + period) * np.arange(len(times))
        assert len(times) >= 3 and expected[-1] + tau * interval + period > 100.0
        np.testing.assert_allclose(times, expected, rtol=0, atol=1e-10)


def test_scipy_finds_a_crossing_within_one_step():
    """An input just above the weight that reaches the threshold: V passes it for a short time."""
    tau, syn = 10.0, 5.0
    peak = tau * math.log(2.0)  # V / weight = x - x^2 with x = exp(-t / 10), at most 1/4
    one = {"mask": np.array([[False], [True]]), "in_times": np.array([[1.0]])}
    one |= {"neuron_tau_mem": np.array([tau]), "neuron_tau_syn": np.array([syn])}
    one |= {f"neuron_{name}": np.array([x]) for name, x in LIF.items() if name != "tau_syn"}
    one["neuron_bias"] = np.zeros(1)
    for weight, fires in ((4.0 + 1e-9, True), (4.0 - 1e-9, False)):
        one["weights"] = np.array([[0.0], [weight]])
        times, _ = peer_scipy.simulate("LIF", one, 40.0, 10)
        assert len(times) == fires
    one["weights"] = np.array([[0.0], [4.0 + 1e-6]])
    (time,), _ = peer_scipy.simulate("LIF", one, 40.0, 10)
    x = (1 + math.sqrt(1 - 4 / (4.0 + 1e-6))) / 2
    assert time == pytest.approx(1.0 - tau * math.log(x), abs=1e-9)
    assert time < 1.0 + peak


def spikes(times, sources):
    return {"times": np.array(times, float), "sources": np.array(sources, int)}


@pytest.mark.parametrize(
    ("times", "sources", "equal", "wrong", "differs_at"),
    [
        ([1.0, 2.0, 3.0], [0, 1, 0], 3, 0, math.inf),
        ([1.0, 2.0 + 1e-9, 3.0], [0, 1, 0], 3, 0, math.inf),
        ([2.0 - 1e-9, 1.0, 3.0], [1, 0, 0], 3, 0, math.inf),
        ([1.0, 2.0, 3.1], [0, 1, 0], 2, 1, 3.0),
        ([1.0, 2.0, 3.0], [0, 0, 0], 1, 2, 2.0),
        ([1.0, 2.0], [0, 1], 2, 1, 3.0),
        ([1.0, 1.5, 2.0, 3.0], [0, 1, 1, 0], 1, 3, 1.5),
        ([], [], 0, 3, 1.0),
    ],
)
def test_spikes_are_compared_up_to_the_first_that_differs(times, sources, equal, wrong, differs_at):
    found = agreement(spikes([1.0, 2.0, 3.0], [0, 1, 0]), spikes(times, sources))
    assert (found["spikes"], found["equal"], found["wrong"]) == (len(times), equal, wrong)
    assert found["differs_at"] == differs_at
    assert found["apart"] <= 1.1e-9


def test_the_summary_counts_networks_that_differ():
    one = {"spikes": 5, "equal": 5, "wrong": 0, "differs_at": math.inf, "apart": 1e-12}
    other = {"spikes": 4, "equal": 2, "wrong": 2, "differs_at": 30.0, "apart": 1e-9}
    found = summary([one, other, one])
    assert (found["networks"], found["spikes"], found["equal_spikes"]) == (3, 14, 12)
    assert (found["wrong_spikes"], found["differing_networks"]) == (2, 1)
    assert (found["first_difference_at_ms"], found["largest_difference_ms"]) == (30.0, 1e-9)
    assert not found["agrees"]
    assert summary([one])["agrees"] and summary([one])["first_difference_at_ms"] is None


def test_lateness_in_steps_and_the_order_of_convergence():
    ours = [spikes([1.0, 2.0, 9.0], [0, 0, 1]), spikes([4.0], [0])]
    peer = [spikes([1.25, 3.0, 9.5], [0, 0, 0]), spikes([4.5, 5.0], [0, 0])]
    found = lateness(ours, peer, 0.5, until=8.0)
    assert (found["spikes"], found["unmatched_spikes"]) == (3, 1)
    assert found["first_difference_steps"] == 1.0
    assert found["mean_difference_steps"] == pytest.approx((0.5 + 2.0 + 1.0) / 3)
    assert found["largest_difference_ms"] == 1.0
    assert order([0.3, 0.15, 0.075], [4.0, 2.0, 1.0]) == pytest.approx(1.0)


class Local:
    """Worker in this process."""

    def __init__(self, commands):
        self.commands = commands

    def request(self, command, **arguments):
        return getattr(self.commands, command)(**arguments)


class Matrices(ours.Commands):
    """Our worker with matrices only, which saves the compilation for sparse synapses."""

    def spikes(self, *, form, **arguments):
        assert form in FORMS
        super().spikes(form="matrix", **arguments)


def test_sparse_networks_have_the_weights_of_the_matrix():
    kind = networks.Kind("QIF", (5,), delays="axonal", periods=kinds.PERIODS)
    (one,) = trains.unstack(networks.draw(kind, 5, [0]))
    dense, sparse = (ours.build(kind.model, form, one, 20.0) for form in FORMS)
    again = sparse.as_dense()
    assert sparse.in_rounds and not dense.in_rounds
    for name in ("weights", "mask", "delays"):
        np.testing.assert_array_equal(getattr(again, name), getattr(dense, name))


def test_rows_and_report(monkeypatch, tmp_path):
    kind = networks.Kind("LIF", (3,), t_max=20.0)
    monkeypatch.setitem(kinds.SPIKES, "scipy", {"small LIF": kind, "another": kind})
    workers = {"ours": Local(Matrices()), "peer": Local(peer_scipy.Commands())}
    options = benchmark.Options(only="small", seeds=3)
    rows = list(benchmark.spike_rows(workers, "scipy", options, tmp_path))
    assert [(row["kind"], row["form"]) for row in rows] == [("small LIF", form) for form in FORMS]
    for row in rows:
        assert row["agrees"] and row["networks"] == 3 and row["spikes"] > 10
        assert row["largest_difference_ms"] < 1e-10
    result = {"spikes": rows, "potentials": [], "convergence": [], "agrees": True}
    by_model, _, by_regime, _ = benchmark.describe(result).split("\n\n")
    assert by_model.splitlines()[-1].split()[:5] == [
        "LIF",
        "scipy",
        "3",
        str(rows[0]["spikes"]),
        "0",
    ]
    assert by_regime.splitlines()[-1].split()[-4::2] == ["0", "0"]
    (merged,), (alone,) = benchmark.by_regime(rows), benchmark.by_regime(rows[:1])
    assert merged["sparse_largest_difference_ms"] == rows[1]["largest_difference_ms"]
    assert alone["sparse_wrong_spikes"] is None
    text = benchmark.describe(result)
    assert text.endswith("all agree") and "differ, first at" not in text
    rows[1] |= {"agrees": False, "differing_networks": 1, "first_difference_at_ms": 12.5}
    text = benchmark.describe(result | {"agrees": False})
    assert "small LIF, sparse: 1 of 3 networks differ, first at 12.5 ms" in text


def test_brian2_must_converge_and_have_the_same_potentials(monkeypatch, tmp_path):
    """Invented potentials and spikes."""

    class Machine:
        def __init__(self, late, apart):
            self.late, self.apart = late, apart

        def spikes(self, problem, out, model, t_max, form="", dt=0.0):
            trains.write(out, [(np.array([1.0, 2.0]) + self.late(dt), np.array([0, 1]))])

        def potentials(self, problem, out, model, t_max, **times):
            files.write(out, {"potentials": np.full((1, 2), self.apart)})

    def rows(late, apart):
        machines = {"ours": Machine(lambda dt: 0.0, 0.0), "peer": Machine(late, apart)}
        workers = {who: Local(machine) for who, machine in machines.items()}
        options = benchmark.Options(only="no delays", seeds=1)
        found = [
            list(part(workers, options, tmp_path))
            for part in (benchmark.potential_rows, benchmark.convergence_rows)
        ]
        result = {"spikes": [], "potentials": found[0], "convergence": found[1], "agrees": True}
        assert len(benchmark.describe(result).split("\n\n")) == 5
        return [all(row["agrees"] for row in part) for part in found]

    assert rows(lambda dt: 0.7 * dt, 1e-12) == [True, True]
    assert rows(lambda dt: 0.7 * dt, 1e-6) == [False, True]
    assert rows(lambda dt: 1.2 * dt, 1e-12) == [True, False]
    assert rows(lambda dt: 0.005, 1e-12) == [True, False]
