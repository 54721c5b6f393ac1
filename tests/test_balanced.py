"""Balanced network of the benchmark: the drawn numbers, our worker, and the report; no timing."""

import os

import numpy as np
import pytest

from benchmarks.balanced import benchmark, network
from benchmarks.balanced.ours import Commands
from benchmarks.workers import files


def test_a_network_has_its_in_degrees_and_is_drawn_again():
    n, k = 60, 20
    made, again = (network.draw(n, 5, k) for _ in range(2))
    assert all(np.array_equal(made[name], again[name]) for name in made)
    sources, exciting = made["sources"], made["sources"] < 48
    assert sources.shape == made["weights"].shape == (n, k)
    assert all(len(set(row) - {i}) == k for i, row in enumerate(sources))
    assert np.all((sources >= 0) & (sources < n))
    assert np.array_equal(exciting.sum(axis=1), np.full(n, 16))
    assert np.array_equal(made["weights"] > 0, exciting)
    assert set(sources.ravel()) == set(range(n))
    assert network.draw(70, 0)["sources"].shape == (70, 7)


def test_inputs_have_the_given_mean_and_variance():
    """Campbell's theorem, integrated numerically: the response of V to a weight of 1 is `psp`."""
    made = network.draw(400, 0, 100)
    t = np.arange(0.0, 400.0, 0.01)
    tau_mem, tau_syn = network.TAU_MEM, network.TAU_SYN
    psp = tau_syn / (tau_mem - tau_syn) * (np.exp(-t / tau_mem) - np.exp(-t / tau_syn))
    one, square = (np.sum(x) * 0.01 * network.RATE for x in (psp, psp**2))
    mean = np.mean(made["bias"]) + one * np.mean(made["weights"].sum(axis=1))
    variance = square * np.mean((made["weights"].astype(float) ** 2).sum(axis=1))
    assert mean == pytest.approx(network.MEAN, abs=0.3)
    # A spread of 10 % of the weights adds 1 %.
    assert variance == pytest.approx(1.01 * network.SD**2, rel=0.01)


def test_synapses_have_one_entry_each():
    made = network.draw(50, 2, 10)
    found, matrix = network.synapses(made), np.zeros((50, 50))
    np.add.at(matrix, (found["sources"], found["targets"]), found["weights"])
    assert all(found[name].shape == (500,) for name in ("sources", "targets", "weights"))
    assert found["delays"] == network.DELAY
    longer = network.draw(50, 2, 10, longest=3)
    delays = network.synapses(longer)["delays"]
    assert set(delays) == set(np.arange(1.0, 3.1, network.GRID))
    assert all(np.array_equal(made[name], longer[name]) for name in made)
    for i in range(50):
        assert np.array_equal(matrix[made["sources"][i], i], made["weights"][i].astype(float))


@pytest.mark.filterwarnings("ignore:prepare_cpu has no effect")  # in this process
def test_our_worker_starts_with_the_closed_form(monkeypatch, tmp_path):
    """Until the first arrival, V approaches the bias exponentially."""
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    made = network.draw(20, 1, 10)
    made["bias"] = np.linspace(16.0, 20.0, 20)
    worker, out = Commands(), tmp_path / "out.npz"
    worker.open(str(files.write(tmp_path / "network.npz", made)), t_max=40.0)
    worker.simulate(str(out))
    spikes, gap = files.read(out), made["bias"] - network.THRESHOLD
    alone = network.TAU_MEM * np.log((made["bias"] - made["v_init"]) / gap)
    early = np.sort(alone[alone < alone.min() + network.DELAY])
    assert len(spikes["times"]) > len(early) > 0
    assert np.all(np.diff(spikes["times"]) >= 0)
    assert np.array_equal(spikes["sources"][: len(early)], np.argsort(alone)[: len(early)])
    np.testing.assert_allclose(spikes["times"][: len(early)], early, rtol=0, atol=1e-12)


def test_activity_counts_spikes_deliveries_and_intervals():
    sources = np.array([[1], [2], [1], [1]], np.int32)
    # Intervals of neuron 1: 2, 6 and 2 ms; of neuron 3: one interval.
    times, neurons = np.array([1.0, 2.0, 3.0, 4.0, 9.0, 11.0]), np.array([1, 3, 1, 3, 1, 1])
    made = {"sources": sources, "bias": np.zeros(4)}
    found = benchmark.activity({"times": times, "sources": neurons}, made)
    assert found["spikes"] == 6
    assert found["synaptic_events"] == 4 * 3
    assert found["rate"] == 1e3 * 6 / (4 * benchmark.T_MAX)
    assert found["cv2"] == 1.0


@pytest.mark.parametrize(
    ("times", "sources", "agrees", "equal"),
    [
        ([1.0, 2.0, 3.0], [0, 1, 2], True, 3),
        ([1.0, 2.0 + 1e-9, 3.0], [0, 1, 2], True, 3),
        ([1.0, 2.0, 3.0], [0, 2, 2], False, 1),
        ([1.0, 2.0, 3.1], [0, 1, 2], False, 2),
        ([1.0, 2.0], [0, 1], False, 2),
        ([2.0 - 1e-9, 1.0, 3.0], [1, 0, 2], True, 3),
    ],
)
def test_spikes_agree_by_neuron_and_time(times, sources, agrees, equal):
    ours = {"times": np.array([1.0, 2.0, 3.0]), "sources": np.array([0, 1, 2])}
    peer = {"times": np.array(times), "sources": np.array(sources)}
    for pair in ((ours, peer), (peer, ours)):
        found = benchmark.agreement(*pair)
        assert (found["agrees"], found["equal_spikes"]) == (agrees, equal)
        assert found["largest_difference_ms"] <= 1.1e-9


@pytest.mark.parametrize("names", [("ours",), ("ours", "peer")])
def test_simulators_take_turns_on_one_network(names, tmp_path):
    """Three rounds with invented times and spikes."""
    turns = []

    class Machine:
        def __init__(self, name):
            self.name, self.left = name, [8.0, 2.0, 4.0]

        def request(self, command, **arguments):
            if command != "simulate":
                return {
                    "memory": {"peak_memory_mb": 5.0},
                    "open": {"build_seconds": 1.0},
                    "gradient": {"gradient_seconds": 6.0},
                }[command]
            turns.append(self.name)
            spikes = {"times": np.array([1.0, 2.0]), "sources": np.array([0, 1])}
            files.write(arguments["out"], spikes)
            return {"seconds": self.left.pop() * (1 if self.name == "ours" else 10)}

    workers = {name: Machine(name) for name in names}
    peer = "nest" if "peer" in names else None
    options = benchmark.Options(peer=peer, inputs=3)
    row = benchmark.measure(workers, 10, options, tmp_path)
    assert turns == list(names) * 3
    assert (row["inputs"], row["ours_seconds"], row["ours_build_seconds"]) == (3, 4.0, 1.0)
    assert row["ours_ns_per_event"] == 4e9 / row["synaptic_events"]
    assert (row["ours_gradient_seconds"], row["gradient_ratio"]) == (6.0, 1.5)
    _, times, gradients = benchmark.describe({"peer": peer, "rows": [row]}).split("\n\n")
    assert gradients.splitlines()[-1].split()[:4] == ["10", "4", "6", "1.5"]
    title, *_, line = times.splitlines()
    if peer:
        assert (row["times_faster"], row["agrees"]) == (10.0, True)
        assert "nest, s" in title
        assert line.split()[:4] == ["10", "4", "40", "10"]
    else:
        assert line.split()[:2] == ["10", "4"]
    options = benchmark.Options(peer=peer, inputs=3, largest_gradient=9)
    for worker in workers.values():
        worker.left = [8.0, 2.0, 4.0]
    row = benchmark.measure(workers, 10, options, tmp_path)
    assert "gradient_ratio" not in row
    assert len(benchmark.describe({"peer": peer, "rows": [row]}).split("\n\n")) == 2
