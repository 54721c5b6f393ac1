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

from .tasks import TASKS, DataError, Outcome, Task

_SEEDS = 2**32
_VERSIONS = ("eventsnn", "jax", "jaxlib", "equinox", "optax", "diffrax")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line: the usage would hide it.
        self.exit(2, f"eventsnn: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv` defaults to the process's arguments.

    **Returns:** the exit code: 0, 1 where training failed, 2 where the data could not be read. A
    wrong option or value leaves by `SystemExit` with code 2 and one line on stderr.
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
    except DataError as error:
        print(f"eventsnn: error: {error}", file=sys.stderr)
        return 2
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
    tasks = run.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, task in TASKS.items():
        _add_options(tasks.add_parser(name, help=task.summary, allow_abbrev=False), task)
    return parser


def _add_options(parser: argparse.ArgumentParser, task: type[Task]) -> None:
    kinds = {"count": _count, "seed": _seed, "text": str}
    for name, field in task.options().items():
        of = field.metadata
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=kinds[of["kind"]],
            choices=of["choices"],
            metavar=None if of["choices"] else name.upper(),
            help=of["help"] + default,
        )
    parser.add_argument("--out", help="folder for metrics and pictures (default: runs/TASK)")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--x64", action="store_true", help="compute in float64")


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
    named = {name: getattr(options, name) for name in task.options()}
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
        **{name: getattr(task, name) for name in task.options()},
        **_machine(),
    }
    written = ["metrics.json"]
    for name, figure in outcome.figures.items():
        written.append(f"{name}.png")
        figure.savefig(out / written[-1])
    for name, animation in outcome.animations.items():
        from .plots import save_gif

        written.append(f"{name}.gif")
        save_gif(animation, out / written[-1])
    (out / written[0]).write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"Wrote {', '.join(written)} to {out}")
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
