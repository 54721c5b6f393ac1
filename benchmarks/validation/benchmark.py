"""Spike by spike comparison of random networks with SciPy, NEST and Brian2.

Method: Networks are drawn with NumPy (see `networks` and `kinds`) and read from one file by both
simulators, which compute in float64. eventsnn simulates each network with a matrix of weights and,
where sparse synapses are simulated in rounds, also with those. The k-th spikes of each neuron are
compared. All models with spikes are compared with SciPy, which integrates the published equations,
and LIF neurons with delays and refractory periods with NEST.

Brian2 has a grid of times. Without spikes, its potentials are exact at these times and are compared
there. With spikes, its networks have to converge to ours: the first spike of a network may be one
step late, the mean difference of all spike times has to be proportional to the step, and with the
shortest step no spike may be missing. The last `MARGIN` of a simulation is left out, because late
spikes leave it.

The run fails if a spike or a potential differs, or if Brian2 does not converge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..harness.benchmark import Benchmark, count, option
from ..harness.report import log, table
from ..harness.worker import Workers, started
from ..workers import files
from . import kinds, trains
from .comparison import EQUAL, agreement, lateness, order, summary
from .networks import GRID, Kind, draw

PEERS = ("scipy", "nest", "brian2")
#: Steps of Brian2 for networks that fire, in ms.
STEPS = (GRID / 4, GRID / 8, GRID / 16, GRID / 32)
MARGIN = 5.0
#: Largest difference of a potential that is called equal, and of the order of convergence from 1.
EQUAL_POTENTIAL, ORDER_WITHIN = 1e-9, 0.15
MODELS = {
    "model": "by model",
    "peer": "compared with",
    "networks": "networks",
    "spikes": "spikes",
    "wrong_spikes": "wrong spikes",
    "largest_difference_ms": "worst difference, ms",
}
REGIMES = {
    "kind": "networks",
    "neurons": "neurons",
    "networks": "number",
    "spikes": "spikes",
    "matrix_wrong_spikes": "matrix: wrong",
    "matrix_largest_difference_ms": "worst, ms",
    "sparse_wrong_spikes": "synapses: wrong",
    "sparse_largest_difference_ms": "worst, ms",
}
POTENTIALS = {
    "kind": "leaky integrators",
    "networks": "number",
    "values": "potentials",
    "largest_difference": "worst difference",
}
CONVERGENCE = {
    "kind": "LIF",
    "networks": "number",
    "dt_ms": "step, ms",
    "spikes": "spikes",
    "unmatched_spikes": "unmatched",
    "first_difference_steps": "first spike, steps",
    "mean_difference_steps": "mean, steps",
    "mean_difference_ms": "mean, ms",
    "largest_difference_ms": "worst, ms",
    "order": "order",
}


@dataclass(frozen=True)
class Options:
    """Selection of peers and networks, and the number of seeds per kind and size."""

    peers: tuple[str, ...] = option(PEERS, "simulators to compare with; default: all", nargs="+")
    only: str = option("", "only networks whose names contain this text", metavar="TEXT")
    seeds: int = count(9, "number of networks per kind and size")


def run(options: Options) -> dict[str, Any]:
    """Compare with each peer, one after the other."""
    result: dict[str, Any] = {"seeds": options.seeds, "spikes": [], "potentials": []}
    result["convergence"] = []
    for peer in options.peers:
        with started("validation", peer) as (workers, folder):
            if peer == "brian2":
                result["potentials"] += list(potential_rows(workers, options, folder))
                result["convergence"] += list(convergence_rows(workers, options, folder))
            else:
                result["spikes"] += list(spike_rows(workers, peer, options, folder))
    rows = [row for part in ("spikes", "potentials", "convergence") for row in result[part]]
    return result | {"agrees": bool(rows) and all(row["agrees"] for row in rows)}


def chosen(table: dict[str, Kind], options: Options) -> Iterator[tuple[str, Kind]]:
    """Select the kinds whose names contain the given text."""
    return ((name, kind) for name, kind in table.items() if options.only in name)


def spike_rows(
    workers: Workers, peer: str, options: Options, folder: Path
) -> Iterator[dict[str, Any]]:
    """Compare all spikes; one row per kind and form of the weights."""
    for name, kind in chosen(kinds.SPIKES[peer], options):
        found: dict[str, list[Any]] = {"matrix": []} | ({"sparse": []} if kind.sparse else {})
        for n in kind.sizes:
            made = files.write(folder / "networks.npz", draw(kind, n, range(options.seeds)))
            theirs = solve(workers, "peer", kind, made, folder)
            for form, compared in found.items():
                ours = solve(workers, "ours", kind, made, folder, form=form)
                compared += [agreement(*pair) for pair in zip(ours, theirs, strict=True)]
        for form, compared in found.items():
            about = {"peer": peer, "model": kind.model, "kind": name, "form": form}
            row = about | {"neurons": " and ".join(map(str, kind.sizes))} | summary(compared)
            log(f"{peer}, {name}, {form}: {row['spikes']} spikes, {row['wrong_spikes']} wrong")
            yield row


def solve(
    workers: Workers, who: str, kind: Kind, made: Path, folder: Path, **arguments: Any
) -> list[files.Arrays]:
    """Return all spikes of all networks of the file `made`, simulated by one worker."""
    out, about = folder / f"{who}.npz", {"model": kind.model, "t_max": kind.t_max}
    workers[who].request("spikes", problem=made, out=out, **about, **arguments)
    return trains.read(out)


def potential_rows(workers: Workers, options: Options, folder: Path) -> Iterator[dict[str, Any]]:
    """Compare the potentials of leaky integrators at all times of the grid."""
    for name, kind in chosen(kinds.POTENTIALS, options):
        (n,), at = kind.sizes, np.arange(0.0, kind.t_max, GRID)
        made = files.write(folder / "networks.npz", draw(kind, n, range(options.seeds)))
        about: dict[str, Any] = {"problem": made, "model": kind.model, "t_max": kind.t_max}
        outs = {who: folder / f"{who}.npz" for who in workers}
        workers["peer"].request("potentials", out=outs["peer"], dt=GRID, **about)
        workers["ours"].request("potentials", out=outs["ours"], at=at.tolist(), **about)
        ours, theirs = (files.read(outs[who])["potentials"] for who in ("ours", "peer"))
        apart = float(np.max(np.abs(ours - theirs)))
        row = {"kind": name, "networks": options.seeds, "values": ours.size}
        log(f"brian2, {name}: {ours.size} potentials, at most {apart:.1e} apart")
        yield row | {"largest_difference": apart, "agrees": apart <= EQUAL_POTENTIAL}


def convergence_rows(workers: Workers, options: Options, folder: Path) -> Iterator[dict[str, Any]]:
    """Compare spike times with those of shorter and shorter steps; one row per step."""
    for name, kind in chosen(kinds.CONVERGENCE, options):
        (n,) = kind.sizes
        made = files.write(folder / "networks.npz", draw(kind, n, range(options.seeds)))
        ours = solve(workers, "ours", kind, made, folder, form="matrix")
        found = []
        for dt in STEPS:
            theirs = solve(workers, "peer", kind, made, folder, dt=dt)
            found.append(lateness(ours, theirs, dt, kind.t_max - MARGIN))
            log(
                f"brian2, {name}, step {dt} ms: {found[-1]['mean_difference_ms']:.1e} ms on average"
            )
        slope = order((one["mean_difference_ms"] for one in found), STEPS)
        agrees = abs(slope - 1) <= ORDER_WITHIN and found[-1]["unmatched_spikes"] == 0
        agrees &= max(one["first_difference_steps"] for one in found) <= 1 + EQUAL
        for one in found:
            yield {"kind": name, "networks": options.seeds, **one, "order": slope, "agrees": agrees}


def describe(result: dict[str, Any]) -> str:
    """Format the spikes by model and by regime, the comparison with Brian2, and what differs."""
    spikes, parts = result["spikes"], []
    if spikes:
        parts += [titled(MODELS, by_model(spikes))]
    for peer in dict.fromkeys(row["peer"] for row in spikes):
        rows = [row for row in spikes if row["peer"] == peer]
        parts += [f"{peer}: spikes", titled(REGIMES, by_regime(rows)), differences(rows)]
    for key, columns in (("potentials", POTENTIALS), ("convergence", CONVERGENCE)):
        if result[key]:
            parts += [f"brian2: {key}", titled(columns, result[key])]
    verdict = "all agree" if result["agrees"] else "NOT ALL AGREE"
    return "\n\n".join([*filter(None, parts), verdict])


def by_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summarise the rows of each model and peer.

    Networks and spikes are counted once. The number of wrong spikes is the larger one of those with
    matrices and with sparse synapses.
    """
    found = []
    for model, peer in dict.fromkeys((row["model"], row["peer"]) for row in rows):
        own = [row for row in rows if (row["model"], row["peer"]) == (model, peer)]
        forms = [[row for row in own if row["form"] == form] for form in ("matrix", "sparse")]
        total = {
            name: max(sum(row[name] for row in form) for form in forms)
            for name in ("networks", "spikes", "wrong_spikes")
        }
        worst = max(row["largest_difference_ms"] for row in own)
        found.append({"model": model, "peer": peer, **total, "largest_difference_ms": worst})
    return found


def by_regime(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the rows of matrices and of sparse synapses; None without sparse synapses."""
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = merged.setdefault(row["kind"], dict.fromkeys(REGIMES) | row)
        for name in ("wrong_spikes", "largest_difference_ms"):
            own[f"{row['form']}_{name}"] = row[name]
    return list(merged.values())


def titled(columns: dict[str, str], rows: list[dict[str, Any]]) -> str:
    """Format rows as a table with these columns."""
    return table(list(columns.values()), [[row[key] for key in columns] for row in rows])


def differences(rows: list[dict[str, Any]]) -> str:
    """Describe the networks that differ, one line per kind; empty if none does."""
    return "\n".join(
        f"{row['kind']}, {row['form']}: {row['differing_networks']} of {row['networks']} networks "
        f"differ, first at {row['first_difference_at_ms']:.4g} ms"
        for row in rows
        if not row["agrees"]
    )


BENCHMARK = Benchmark(
    "spikes of random networks, compared with SciPy, NEST and Brian2",
    run,
    describe,
    full=Options(),
    quick=Options(peers=("scipy",), only="LIF: no delays, refractory", seeds=3),
    choices={"peers": PEERS},
)
