"""Plan of larger networks on several devices, from the results of the benchmark `balanced`.

    python -m benchmarks.balanced.plan benchmarks/results/balanced-MACHINE.json

The simulation time is the sum of a time per spike and a time per synaptic event, which follow from
the smallest and the largest network of the results file. The memory of a synapse is the difference
of the two largest networks. Firing rate and ratio of the times of a gradient and of a simulation
are those of the largest networks.

Synapses are stored on the device of their target. Every device gets all spikes of a round, with
time (8 bytes) and source (4 bytes), before the next round starts, and visits the targets of each.
The time per synaptic event is divided by the number of devices, the time per spike is not. The
table assumes devices as fast as the core that was measured, and has no time for communication.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..harness.report import table
from .network import DELAY

BYTES_OF_A_SPIKE = 8 + 4
BYTES_OF_A_NEURON = 3 * 8  # potential, synaptic current, time left of the refractory period


def terms(result: dict[str, Any]) -> dict[str, float]:
    """Measured terms: times in seconds, memory in bytes, rate in Hz."""
    rows = sorted(result["rows"], key=lambda row: row["neurons"])
    first, second, last = rows[0], rows[-2], rows[-1]
    events = last["synaptic_events"] / last["spikes"] - first["synaptic_events"] / first["spikes"]
    times = [row["ours_seconds"] / row["spikes"] for row in (first, last)]
    event = (times[1] - times[0]) / events
    synapses = [row["neurons"] * row["inputs"] for row in (second, last)]
    memory = [1e6 * row["simulation_memory_mb"] for row in (second, last)]
    ratios = [row["gradient_ratio"] for row in rows if "gradient_ratio" in row]
    return {
        "seconds per spike": times[0] - event * first["synaptic_events"] / first["spikes"],
        "per synaptic event": event,
        "bytes per synapse": (memory[1] - memory[0]) / (synapses[1] - synapses[0]),
        "rate in Hz": last["rate"],
        "gradient / simulation": ratios[-1],
    }


def plan(
    measured: dict[str, float], neurons: int, inputs: int, devices: int, t_max: float
) -> list[float]:
    """Figures of one number of devices, in the order of `HEADER`; `t_max` in ms."""
    spikes, rounds = measured["rate in Hz"] / 1e3 * t_max * neurons, t_max / DELAY
    visits = measured["seconds per spike"] * spikes
    seconds = visits + measured["per synaptic event"] * spikes * inputs / devices
    return [
        devices,
        measured["bytes per synapse"] * neurons * inputs / devices / 1e9,
        seconds,
        visits / seconds,
        measured["gradient / simulation"] * seconds,
        rounds * neurons * BYTES_OF_A_NEURON / devices / 1e9,
        spikes / rounds * BYTES_OF_A_SPIKE / 1e6,
    ]


HEADER = (
    "devices",
    "synapses, GB",
    "simulation, s",
    "share of visits",
    "gradient, s",
    "states, GB",
    "received per round, MB",
)


def main(arguments: list[str]) -> int:
    """Print the measured terms and one row per number of devices."""
    parser = argparse.ArgumentParser(prog="benchmarks.balanced.plan", description=__doc__)
    parser.add_argument("results", type=Path, help="results file of the benchmark balanced")
    parser.add_argument("--neurons", type=int, default=1_000_000)
    parser.add_argument("--inputs", type=int, default=1000, help="synapses per neuron")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--t-max", type=float, default=200.0, help="simulated time in ms")
    options = parser.parse_args(arguments)
    measured = terms(json.loads(options.results.read_text()))
    print("measured:", ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))
    print(
        f"{options.neurons:,} neurons, {options.neurons * options.inputs:,} synapses, "
        f"{options.t_max:g} ms"
    )
    size = options.neurons, options.inputs
    print(table(HEADER, [plan(measured, *size, n, options.t_max) for n in options.devices]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
