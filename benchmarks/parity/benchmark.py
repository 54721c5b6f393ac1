"""eventsnn and eventax on the same networks: required agreement, and incorrect results of eventax.

First part: networks drawn from seeds (`networks`), in float64; eventax with Tsit5 at a short step,
crossings accurate to rounding. First spikes, the first three spikes, potentials, and the
derivatives of a random functional of each with respect to weights, input times and all neuron
parameters must agree to the tolerances given there.

Second part: small cases with a known result (`cases`). eventsnn must return it. The deviation of
eventax is checked as well, because `docs/eventax.md` states it.

The run fails if any of these checks fails.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..harness.benchmark import Benchmark, count, option
from ..harness.report import log, table
from ..harness.worker import Workers, started
from ..workers import files
from ..workers.files import Arrays
from . import cases, networks

PEER = "eventax"
ANSWERS = ("ttfs", "spikes", "states")
#: Absolute floors, in ms or units of the potential and per unit of the parameter. Below them,
#: differences are absolute: a derivative close to zero has no significant digits.
ANSWER_FLOOR, DERIVATIVE_FLOOR = 1.0, 0.01
#: Largest error allowed for eventsnn; smallest error of the peer that counts as incorrect.
EXACT, WRONG = 1e-9, 1e-4


@dataclass(frozen=True)
class Options:
    """Selection of networks, by parts of their names, and the number of seeds per network."""

    only: str = option("", "compare only networks whose names contain this text", metavar="TEXT")
    seeds: int = count(3, "number of seeds per network")


def difference(ours: np.ndarray, theirs: np.ndarray, floor: float) -> float:
    """Return the largest difference, as a fraction of the largest entry or of a larger `floor`.

    The result is inf if one value is finite and the other is not, or if any value is NaN.
    """
    known = np.isfinite(ours)
    if np.isnan([*ours.flat, *theirs.flat]).any() or not np.array_equal(known, np.isfinite(theirs)):
        return float("inf")
    apart = np.max(np.abs(ours[known] - theirs[known]), initial=0.0)
    return float(apart / np.max(np.abs(ours[known]), initial=floor))


def compare(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Return the largest difference of each result and of the derivatives by kind of parameter."""
    found = {name: difference(ours[name], theirs[name], ANSWER_FLOOR) for name in ANSWERS}
    for key in [key for key in ours if key not in ANSWERS]:
        name = f"d / d {key.split(' / d ')[1].removeprefix('neuron_')}"
        apart = difference(ours[key], theirs[key], DERIVATIVE_FLOOR)
        found[name] = max(found.get(name, 0.0), apart)
    return found


def network_rows(workers: Workers, name: str, seeds: int, folder: Path) -> list[Any]:
    """Compute one row per quantity of a kind of network: the largest difference over the seeds.

    Networks without any spike count as a failure.
    """
    found, spikes, rows = {}, 0, []
    for seed in range(seeds):
        problem, solved = files.write(folder / "problem.npz", networks.make(name, seed)), {}
        for who, worker in workers.items():
            worker.request("solve", name=name, problem=problem, out=folder / f"{who}.npz")
            solved[who] = files.read(folder / f"{who}.npz")
        spikes += int(np.isfinite(solved["ours"]["spikes"]).sum())
        for quantity, apart in compare(solved["ours"], solved["peer"]).items():
            found[quantity] = max(found.get(quantity, 0.0), apart)
        log(f"{name}, seed {seed}: largest difference {max(found.values()):.1e}")
    for quantity, apart in found.items():
        allowed = networks.KINDS[name].tolerances[quantity not in ANSWERS]
        row = {"network": name, "quantity": quantity, "difference": apart, "tolerance": allowed}
        rows.append(row | {"spikes": spikes, "agrees": apart <= allowed and spikes > 0})
    return rows


def case_row(case: cases.Case, answers: dict[str, cases.Answer]) -> dict[str, Any]:
    """Evaluate one small case. `holds` is true if eventsnn is correct and the peer is not."""
    right = cases.same(answers["ours"], case.truth, EXACT)
    wrong = not cases.same(answers["peer"], case.truth, WRONG)
    row = {"case": case.name, "text": case.text, "of": case.of}
    for name, answer in {**answers, "truth": case.truth}.items():
        row[name] = answer if isinstance(answer, str) else ", ".join(f"{x:.5g}" for x in answer)
    return row | {"holds": right and wrong}


def run(options: Options) -> dict[str, Any]:
    """Run both libraries; `agrees` is true if all checks pass."""
    wrong, rows = [], []
    with started("parity", PEER) as (workers, folder):
        for case in cases.CASES:
            answers = {
                who: workers[who].request("answer", case=case.name)["answer"]
                for who in ("peer", "ours")
            }
            wrong.append(case_row(case, answers))
            log(f"{case.name}: {PEER} {wrong[-1]['peer']}; ours {wrong[-1]['ours']}")
        for name in networks.KINDS:
            if options.only in name:
                rows += network_rows(workers, name, options.seeds, folder)
    checks = [row["agrees"] for row in rows] + [row["holds"] for row in wrong]
    about = {"peer": PEER, "seeds": options.seeds, "agrees": bool(rows) and all(checks)}
    return about | {"networks": rows, "cases": wrong}


def describe(result: dict[str, Any]) -> str:
    """Format both parts as tables."""
    yes, lines, wrong = {True: "yes", False: "NO"}, [], []
    for row in result["networks"]:
        numbers = f"{row['difference']:.1e}", f"{row['tolerance']:.0e}"
        lines.append((row["quantity"], row["network"], *numbers, yes[row["agrees"]]))
    for row in result["cases"]:
        wrong.append((*(row[k] for k in ("case", "peer", "ours", "truth")), yes[row["holds"]]))
    agreement = table(("quantity", "network", "largest difference", "allowed", "agrees"), lines)
    errors = table(("case", PEER, "eventsnn", "truth", "as expected"), wrong)
    texts = "\n".join(f"{row['case']}: {row['text']}; {row['of']}" for row in result["cases"])
    verdict = "all as expected" if result["agrees"] else "NOT AS EXPECTED: see the last columns"
    return "\n\n".join([agreement, f"incorrect results of {PEER}", errors, texts, verdict])


BENCHMARK = Benchmark(
    "agreement of results and derivatives with eventax, and its incorrect results",
    run,
    describe,
    full=Options(),
    quick=Options(only="LIF feed-forward", seeds=1),
)
