"""Balanced random networks on one core: time of a simulation and its growth, also of NEST.

Method: One network per size, drawn with NumPy (see `network`), is read from one file by all
simulators. Each runs on one core in its own process; they simulate in turns. All compute in
float64. Times are those of the simulation alone, without building the network, preparing NEST, or
compiling eventsnn; NEST builds the network anew for each simulation. Both return all spike times.
A synaptic event is the delivery of one spike to one neuron. The gradient is that of a loss on all
spike times by all weights, with the simulation itself; it is measured after the simulations.

The spikes of both must agree: each neuron fires equally often, at the same times. The rate and
the mean local coefficient of variation of the intervals between spikes (CV2 of Holt et al., J.
Neurophysiol. 75:1806, 1996; 1 for a Poisson process) describe the activity.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..harness.benchmark import Benchmark, count, option, positive
from ..harness.report import log, ratio, table
from ..harness.worker import Workers, started
from ..workers import files
from ..workers.files import Arrays
from .network import draw

T_MAX = 200.0
#: Largest difference of two spike times that are called equal, in ms.
EQUAL = 1e-6
SPIKES = {
    "neurons": "neurons",
    "inputs": "inputs",
    "spikes": "spikes",
    "rate": "rate, Hz",
    "cv2": "CV2",
    "equal_spikes": "equal spikes",
    "largest_difference_ms": "difference, ms",
}
GRADIENTS = {
    "neurons": "neurons",
    "ours_seconds": "simulation, s",
    "ours_gradient_seconds": "gradient, s",
    "gradient_ratio": "gradient / simulation",
    "simulation_memory_mb": "simulation, MB",
    "ours_peak_memory_mb": "with gradient, MB",
}
TIMES = {
    "neurons": "neurons",
    "ours_seconds": "eventsnn, s",
    "peer_seconds": "peer, s",
    "times_faster": "times faster",
    "ours_ns_per_event": "eventsnn, ns/event",
    "peer_ns_per_event": "peer, ns/event",
    "simulation_memory_mb": "eventsnn, MB",
    "peer_peak_memory_mb": "peer, MB",
}


@dataclass(frozen=True)
class Options:
    """Sizes of the networks, and the number of timed simulations."""

    peer: str | None = option(None, "simulator to compare with; default: none")
    neurons: tuple[int, ...] = option(
        (1000, 10_000, 100_000), "numbers of neurons", nargs="+", type=positive, metavar="N"
    )
    inputs: int | None = count(
        None, "inputs per neuron; default: a tenth of the neurons, at most 1000"
    )
    longest: int | None = count(
        None, "longest synaptic delay in ms, from 1 ms on; default: all delays are 1 ms"
    )
    largest_gradient: int = count(10_000, "neurons of the largest network with a gradient")
    rounds: int = count(3, "number of timed simulations per simulator and size")


def run(options: Options) -> dict[str, Any]:
    """Measure all sizes, in fresh processes for each."""
    rows = []
    for n in options.neurons:
        with started("balanced", options.peer) as (workers, folder):
            rows.append(measure(workers, n, options, folder))
    agrees = all(row.get("agrees", True) for row in rows)
    return {
        "peer": options.peer,
        "t_max": T_MAX,
        "longest_delay": options.longest,
        "agrees": agrees,
        "rows": rows,
    }


def measure(workers: Workers, n: int, options: Options, folder: Path) -> dict[str, Any]:
    """Simulate one network with all workers in turns."""
    network = draw(n, 0, options.inputs, options.longest)
    problem = files.write(folder / "network.npz", network)
    row: dict[str, Any] = {"neurons": n, "inputs": network["sources"].shape[1]}
    for who, worker in workers.items():
        opened = worker.request("open", problem=problem, t_max=T_MAX)
        row |= {f"{who}_{name}": value for name, value in opened.items()}
    runs = in_turns(workers, options.rounds, folder)
    row["simulation_memory_mb"] = workers["ours"].request("memory")["peak_memory_mb"]
    if n <= options.largest_gradient:
        workers["ours"].request("gradient")  # compiles
        gradients = [workers["ours"].request("gradient") for _ in range(options.rounds)]
        row["ours_gradient_seconds"] = median(one["gradient_seconds"] for one in gradients)
    spikes = {who: files.read(folder / f"{who}.npz") for who in workers}
    row |= activity(spikes["ours"], network)
    for who, worker in workers.items():
        row |= {f"{who}_{name}": median(one[name] for one in runs[who]) for name in runs[who][0]}
        row[f"{who}_rounds"] = [one["seconds"] for one in runs[who]]
        row[f"{who}_ns_per_event"] = ratio(1e9 * row[f"{who}_seconds"], row["synaptic_events"])
        row[f"{who}_peak_memory_mb"] = worker.request("memory")["peak_memory_mb"]
    if "ours_gradient_seconds" in row:
        row["gradient_ratio"] = ratio(row["ours_gradient_seconds"], row["ours_seconds"])
    if "peer" in workers:
        row["times_faster"] = ratio(row["peer_seconds"], row["ours_seconds"])
        row |= agreement(spikes["ours"], spikes["peer"])
    return row


def in_turns(workers: Workers, rounds: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Simulate with all workers in each round; the spikes of the last one are in a file each."""
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in workers}
    for turn in range(rounds):
        for who, worker in workers.items():
            runs[who].append(worker.request("simulate", out=folder / f"{who}.npz"))
        shown = ", ".join(f"{who} {found[-1]['seconds']:.3f} s" for who, found in runs.items())
        log(f"round {turn + 1}: {shown}")
    return runs


def activity(spikes: Arrays, network: Arrays) -> dict[str, float]:
    """Numbers of spikes and of synaptic events, rate in Hz and CV2."""
    n, order = len(network["bias"]), np.lexsort((spikes["times"], spikes["sources"]))
    times, sources = (spikes[name][order] for name in ("times", "sources"))
    targets = np.bincount(network["sources"].ravel(), minlength=n)
    intervals, third = np.diff(times), sources[2:] == sources[:-2]
    first, second = intervals[:-1][third], intervals[1:][third]
    local = 2 * np.abs(second - first) / (second + first)
    return {
        "spikes": len(times),
        "synaptic_events": int(targets[sources].sum()),
        "rate": 1e3 * len(times) / (n * T_MAX),
        "cv2": float(np.mean(local)) if len(local) else float("nan"),
    }


def agreement(ours: Arrays, peer: Arrays) -> dict[str, Any]:
    """Number of spikes before the first that differs, and the largest difference of their times.

    The k-th spikes of a neuron in both simulators are compared. `agrees` is true if none differs.
    """
    (our_keys, ours_at), (peer_keys, peer_at) = keyed(ours), keyed(peer)
    _, i, j = np.intersect1d(our_keys, peer_keys, assume_unique=True, return_indices=True)
    earlier, apart = np.minimum(ours_at[i], peer_at[j]), np.abs(ours_at[i] - peer_at[j])
    alone = np.delete(ours_at, i), np.delete(peer_at, j)
    differing = np.concatenate([*alone, earlier[apart > EQUAL]])
    equal = earlier < np.min(differing, initial=np.inf)
    return {
        "agrees": not len(differing),
        "equal_spikes": int(np.sum(equal)),
        "largest_difference_ms": float(np.max(apart[equal], initial=0.0)),
    }


def keyed(spikes: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return one number per spike, from its neuron and its place in the train, and the times."""
    order = np.lexsort((spikes["times"], spikes["sources"]))
    sources = spikes["sources"][order].astype(np.int64)
    place = np.arange(len(order)) - np.searchsorted(sources, sources)
    return (sources << 32) + place, spikes["times"][order]


def describe(result: dict[str, Any]) -> str:
    """Format the spikes and the times as tables with one row per network."""
    tables, measured = [], [row for row in result["rows"] if "gradient_ratio" in row]
    parts = [(SPIKES, result["rows"]), (TIMES, result["rows"]), (GRADIENTS, measured)]
    for columns, rows in parts if measured else parts[:2]:
        shown = [key for key in columns if key in rows[0]]
        titles = [columns[key].replace("peer", str(result["peer"])) for key in shown]
        tables.append(table(titles, [[row[key] for key in shown] for row in rows]))
    return "\n\n".join(tables)


BENCHMARK = Benchmark(
    "balanced random networks on one core: time of a simulation, also of NEST",
    run,
    describe,
    full=Options(),
    quick=Options(neurons=(200,), inputs=60, rounds=1),
    choices={"peer": ("nest",)},
)
