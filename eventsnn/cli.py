"""The command line: `eventsnn run TASK` and `eventsnn tasks`."""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import sys
from collections.abc import Sequence
from typing import NoReturn

from .tasks import SOLVERS, TASKS, Outcome, Task

_SEEDS = 2**32
_VERSIONS = ("eventsnn", "jax", "jaxlib", "equinox", "optax", "diffrax")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line: the usage would hide it.
        self.exit(2, f"eventsnn: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv` defaults to the process's arguments.

    **Returns:** the exit code: 0, or 1 where training failed. A wrong option or value leaves by
    `SystemExit` with code 2 and one line on stderr.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command == "tasks":
        width = max(map(len, TASKS))
        for name, task in TASKS.items():
            print(f"{name:<{width}}  {task.summary}")
        return 0
    out = pathlib.Path(options.out or pathlib.Path("runs", options.task))
    try:
        _make_writable(out)
    except OSError as error:
        parser.error(f"argument --out: cannot write to '{out}': {error.strerror}")
    _prepare_jax(x64=options.x64)
    try:
        outcome = _task(options).run(progress=True)
    except FloatingPointError as error:
        print(f"eventsnn: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eventsnn: interrupted", file=sys.stderr)
        return 130
    _report(_task(options), outcome, out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("eventsnn", description="Spiking networks with exact spike times.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("tasks", help="list the tasks", allow_abbrev=False)
    run = commands.add_parser("run", help="train and test on a task", allow_abbrev=False)
    run.add_argument("task", metavar="TASK", choices=TASKS, help="one of " + ", ".join(TASKS))
    run.add_argument("--seed", type=_seed, help="of the parameters and the data")
    run.add_argument("--steps", type=_count, help="gradient steps")
    run.add_argument(
        "--solver",
        choices=SOLVERS,
        help="how neurons flow between events: their closed form, or an ODE solver of diffrax",
    )
    run.add_argument("--out", help="folder for metrics and pictures (default: runs/TASK)")
    run.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    run.add_argument("--x64", action="store_true", help="compute in float64")
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= _SEEDS:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 2**32 - 1, got '{text}'"
        )
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def _task(options: argparse.Namespace) -> Task:
    task = TASKS[options.task]()
    if options.quick:
        task = task.quick()
    named = {name: getattr(options, name) for name in ("seed", "steps", "solver")}
    return dataclasses.replace(task, **{k: v for k, v in named.items() if v is not None})


def _make_writable(out: pathlib.Path) -> None:
    """Finds out before the training, not after it."""
    out.mkdir(parents=True, exist_ok=True)
    probe = out / ".writable"
    probe.touch()
    probe.unlink()


def _prepare_jax(*, x64: bool) -> None:
    """What has to be said before jax opens its devices."""
    import jax

    from .cpu import prepare_cpu

    if x64:
        jax.config.update("jax_enable_x64", True)
    prepare_cpu()


def _report(task: Task, outcome: Outcome, out: pathlib.Path) -> None:
    metrics = {
        "task": task.name,
        **outcome.metrics,
        "seed": task.seed,
        "steps": task.steps,
        "solver": task.solver,
        **_machine(),
    }
    for name, figure in outcome.figures.items():
        figure.savefig(out / f"{name}.png")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"Wrote metrics.json and {', '.join(f'{name}.png' for name in outcome.figures)} to {out}")
    print(json.dumps(metrics), flush=True)


def _machine() -> dict[str, object]:
    import jax

    device = jax.devices()[0]
    versions = {name: _version(name) for name in _VERSIONS}
    return {
        "dtype": str(jax.numpy.result_type(float)),
        "platform": device.platform,
        "device": platform.machine() if device.platform == "cpu" else device.device_kind,
        "device_count": jax.device_count(),
        "versions": {"python": platform.python_version(), **versions},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # eventsnn itself, run from its source folder
