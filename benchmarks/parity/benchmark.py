"""eventsnn and eventax on the same networks: required agreement, and incorrect results of eventax.

First part: networks drawn from seeds (`parity_problems`), in float64; eventax with Tsit5 at a short
step, crossings accurate to rounding. First spikes, the first three spikes, potentials, and the
derivatives of a random functional of each with respect to weights, input times and all neuron
parameters must agree to the tolerances given there.

Second part: small cases with a known result (`parity_cases`). eventsnn must return it. The
deviation of eventax is checked as well, because `docs/eventax.md` states it.

The run fails if any of these checks fails.
"""

import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from sys import executable
from typing import Any

import numpy as np

from ..harness import environments as peers
from ..harness import machine
from ..harness.report import table
from ..harness.worker import Worker
from ..ttfs_regression.benchmark import say
from . import cases
from . import networks as problems

PEER = "eventax"
PEERS_WORKER = "benchmarks.parity.eventax"
OURS = "benchmarks.parity.ours"
WHO = ("peer", "ours", "truth")
ANSWERS = ("ttfs", "spikes", "states")
#: Absolute floors, in ms or units of the potential and per unit of the parameter. Below them,
#: differences are absolute: a derivative close to zero has no significant digits.
ANSWER_FLOOR, DERIVATIVE_FLOOR = 1.0, 0.01
#: Largest error allowed for eventsnn; smallest error of the peer that counts as incorrect.
EXACT, WRONG = 1e-9, 1e-4


@dataclass(frozen=True)
class Options:
    """Selection of networks, by parts of their names, and the number of seeds per network."""

    only: str = ""
    seeds: int = 3


QUICK = Options(only="LIF feed-forward", seeds=1)


def difference(ours: np.ndarray, theirs: np.ndarray, floor: float) -> float:
    """Return the largest difference, as a fraction of the largest entry, or of `floor` if that is
    larger.

    The result is inf if one value is finite and the other is not, or if any value is NaN.
    """
    known = np.isfinite(ours)
    if np.isnan([*ours.flat, *theirs.flat]).any() or not np.array_equal(known, np.isfinite(theirs)):
        return float("inf")
    apart = np.max(np.abs(ours[known] - theirs[known]), initial=0.0)
    return float(apart / np.max(np.abs(ours[known]), initial=floor))


def compare(ours: problems.Arrays, theirs: problems.Arrays) -> dict[str, float]:
    """Return the largest difference of each result and of the derivatives by kind of parameter."""
    found = {name: difference(ours[name], theirs[name], ANSWER_FLOOR) for name in ANSWERS}
    for key in ours:
        if key not in ANSWERS:
            name = f"d / d {key.split(' / d ')[1].removeprefix('neuron_')}"
            apart = difference(ours[key], theirs[key], DERIVATIVE_FLOOR)
            found[name] = max(found.get(name, 0.0), apart)
    return found


def both(
    workers: dict[str, Worker], name: str, seed: int, folder: Path
) -> tuple[problems.Arrays, problems.Arrays]:
    """Return results and derivatives of eventsnn and of the peer for one network."""
    problem, solved = folder / "problem.npz", {}
    np.savez(problem, allow_pickle=False, **problems.make(name, seed))
    for who, worker in workers.items():
        out = folder / f"{who}.npz"
        worker.ask("solve", name=name, problem=str(problem), out=str(out))
        with np.load(out) as file:
            solved[who] = {key: file[key] for key in file.files}
    return solved["ours"], solved["peer"]


def networks(workers: dict[str, Worker], options: Options, folder: Path) -> list[dict[str, Any]]:
    """Compute one row per quantity and kind of network: the largest difference over the seeds."""
    rows = []
    for name, kind in problems.KINDS.items():
        if options.only not in name:
            continue
        found: dict[str, float] = {}
        spikes = 0
        for seed in range(options.seeds):
            ours, theirs = both(workers, name, seed, folder)
            spikes += int(np.isfinite(ours["spikes"]).sum())
            for quantity, apart in compare(ours, theirs).items():
                found[quantity] = max(found.get(quantity, 0.0), apart)
            say(f"{name}, seed {seed}: largest difference {max(found.values()):.1e}")
        rows += [one_row(name, kind, *item, spikes) for item in found.items()]
    return rows


def one_row(
    name: str, kind: problems.Kind, quantity: str, apart: float, spikes: int
) -> dict[str, Any]:
    """Compare the two results with the tolerance; networks without any spike count as a failure."""
    allowed = kind.tolerances[quantity not in ANSWERS]
    return {
        "network": name,
        "quantity": quantity,
        "difference": apart,
        "tolerance": allowed,
        "spikes": spikes,
        "agrees": apart <= allowed and spikes > 0,
    }


def judged(case: cases.Case, ours: cases.Answer, theirs: cases.Answer) -> dict[str, Any]:
    """Evaluate one small case. `holds` is true if eventsnn is correct and the peer is not."""
    right = cases.same(ours, case.truth, EXACT)
    wrong = not cases.same(theirs, case.truth, WRONG)
    shown = {"peer": theirs, "ours": ours, "truth": case.truth}
    return {
        "case": case.name,
        "text": case.text,
        "of": case.of,
        **{who: as_text(answer) for who, answer in shown.items()},
        "holds": right and wrong,
    }


def as_text(answer: cases.Answer) -> str:
    return answer if isinstance(answer, str) else ", ".join(f"{value:.5g}" for value in answer)


def small_cases(workers: dict[str, Worker]) -> list[dict[str, Any]]:
    rows = []
    for case in cases.CASES:
        ours, theirs = (
            workers[k].ask("answer", case=case.name)["answer"] for k in ("ours", "peer")
        )
        rows.append(judged(case, ours, theirs))
        say(f"{case.name}: {PEER} {rows[-1]['peer']}; ours {rows[-1]['ours']}")
    return rows


def run(options: Options) -> dict[str, Any]:
    """Run both libraries; `agrees` is true if all checks pass."""
    described = machine.describe()
    commands = {"ours": (Path(executable), OURS), "peer": (peers.ensure(PEER), PEERS_WORKER)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = {n: stack.enter_context(closing(Worker(*c))) for n, c in commands.items()}
        wrong = small_cases(workers)
        rows = networks(workers, options, Path(folder))
    return {
        "benchmark": "parity",
        "peer": PEER,
        "seeds": options.seeds,
        "agrees": bool(rows) and all([*(r["agrees"] for r in rows), *(r["holds"] for r in wrong)]),
        "networks": rows,
        "cases": wrong,
        "machine": described,
    }


def describe(result: dict[str, Any]) -> str:
    """Format both parts as tables."""
    lines = [
        (
            row["quantity"],
            row["network"],
            f"{row['difference']:.1e}",
            f"{row['tolerance']:.0e}",
            "yes" if row["agrees"] else "NO",
        )
        for row in result["networks"]
    ]
    header = ("quantity", "network", "largest difference", "allowed", "agrees")
    texts = "\n".join(f"{row['case']}: {row['text']}; {row['of']}" for row in result["cases"])
    verdict = "all as expected" if result["agrees"] else "NOT AS EXPECTED: see the last columns"
    wrong = cases_table(result["cases"])
    return "\n\n".join([table(header, lines), f"where {PEER} is not right", wrong, texts, verdict])


def cases_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        (row["case"], *(row[who] for who in WHO), "yes" if row["holds"] else "NO") for row in rows
    ]
    return table(("case", PEER, "eventsnn", "truth", "as expected"), lines)
