"""Commands of the command line: `eventsnn run TASK` and `eventsnn tasks`."""

import argparse
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import reprlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from . import __version__
from .results import METRICS, Folder
from .tasks import TASKS, DataError, Outcome, Task

_VERSIONS = ("eventsnn", "jax", "jaxlib", "equinox", "optax", "diffrax")


class Failure(Exception):
    """Error that ends a command, with a one-line message and the exit code."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class WrongUsage(Failure):
    """Invalid option, or invalid value of an option."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Only one line, without the usage text, which would hide it.
        raise WrongUsage(message, 2)

    def print_help(self, file=None) -> None:
        _show(self.format_help().rstrip())


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        _show(f"eventsnn {__version__}")
        parser.exit()


def run(argv: Sequence[str]) -> int:
    """Run the command given by the arguments.

    **Returns:** the exit code, 0.

    **Raises:** [`Failure`][] if the command fails. `SystemExit` with code 0 after `--help`.
    """
    options = _parse(argv)
    if options.command == "tasks":
        width = max(map(len, TASKS))
        _show("\n".join(f"{name:<{width}}  {task.summary}" for name, task in TASKS.items()))
        return 0
    task = _task(options)
    with _folder(options) as folder:
        _prepare(x64=options.x64)
        _report(task, _outcome(task), folder)
    return 0


def _parse(argv):
    parser = _parser()
    for argument in argv:
        option, _, value = argument.partition("=")
        if option.startswith("--") and value == "--":  # argparse treats it as no value
            parser.error(f"argument {option}: expected a value, got '--'")
    return parser.parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("eventsnn", description="Spiking networks with exact spike times.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("tasks", help="list the tasks", allow_abbrev=False)
    run = commands.add_parser("run", help="train and test on a task", allow_abbrev=False)
    tasks = run.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, task in TASKS.items():
        _add_options(tasks.add_parser(name, help=task.summary, allow_abbrev=False), task)
    return parser


def _add_options(parser: argparse.ArgumentParser, task: type[Task]) -> None:
    for name, field in task.options().items():
        of = field.metadata
        whole = None if of["least"] is None else _Whole(of["least"], of["most"])
        about = [] if whole is None else [f"a whole number {whole}"]
        about += [] if field.default is None else [f"default: {field.default}"]
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=whole or _text,
            choices=of["choices"],
            metavar=None if of["choices"] else name.upper(),
            help=of["help"] + (f" ({'; '.join(about)})" if about else ""),
        )
    parser.add_argument(
        "--out", type=_text, help="folder for metrics and pictures (default: runs/TASK)"
    )
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--x64", action="store_true", help="compute in float64")


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected some text, got ''")
    return text


@dataclasses.dataclass(frozen=True)
class _Whole:
    """Parser of an integer in a range that starts at 0 or 1, written in ASCII digits."""

    least: int
    most: int

    def __call__(self, text: str) -> int:
        digits = text.isascii() and text.isdecimal() and len(text) <= 20
        if not digits or not self.least <= int(text) <= self.most:
            raise argparse.ArgumentTypeError(
                f"expected a whole number {self}, got {reprlib.repr(text)}"
            )
        return int(text)

    def __str__(self) -> str:
        power = self.most.bit_length()
        most = f"2**{power} - 1" if self.most == 2**power - 1 else self.most
        return f"of at most {most} and at least 1" if self.least else f"from 0 to {most}"


def _task(options: argparse.Namespace) -> Task:
    task = TASKS[options.task]()
    if options.quick:
        task = task.quick()
    named = {name: getattr(options, name) for name in task.options()}
    return dataclasses.replace(task, **{k: v for k, v in named.items() if v is not None})


def _folder(options: argparse.Namespace) -> Folder:
    """Open the folder for the results, and check before training that it can be used."""
    out = pathlib.Path(options.out or pathlib.Path("runs", options.task))
    pictures = {name for task in TASKS.values() for name in task.pictures}
    try:
        folder = Folder(out, sorted(pictures))
    except BlockingIOError:
        raise WrongUsage(f"argument --out: '{out}' is in use by another run", 2) from None
    except (OSError, ValueError) as error:
        raise WrongUsage(f"argument --out: cannot write to '{out}': {_reason(error)}", 2) from None
    if not folder.locked:
        print(
            f"eventsnn: '{out}' cannot be locked: a second run in it would not be noticed",
            file=sys.stderr,
        )
    return folder


def _prepare(*, x64: bool) -> None:
    """Configure JAX, open its devices, and import matplotlib, so that failures come early."""
    import jax

    from .cpu import prepare_cpu

    if x64:
        jax.config.update("jax_enable_x64", True)
    prepare_cpu()
    try:
        jax.devices()
    except Exception as error:  # an assertion without a message, if JAX lacks CUDA
        platforms = os.environ.get("JAX_PLATFORMS")
        told = f" with JAX_PLATFORMS={platforms}" if platforms else ""
        raise Failure(f"JAX cannot start{told}: {str(error) or 'no such device'}", 2) from None
    try:
        from . import plots as plots
    except (ImportError, ValueError) as error:
        raise Failure(f"matplotlib cannot be imported: {error}", 2) from None


def _outcome(task: Task) -> Outcome:
    import jax

    try:
        return task.run(progress=True)
    except DataError as error:
        raise Failure(str(error), 2) from None
    except FloatingPointError as error:
        raise Failure(str(error)) from None
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        raise Failure(f"training failed: {_reason(error).splitlines()[0]}") from None


def _report(task: Task, outcome: Outcome, folder: Folder) -> None:
    """Print and write the metrics, then draw and write the figures."""
    metrics = {
        "task": task.name,
        **outcome.metrics,
        **{name: getattr(task, name) for name in task.options()},
        **_machine(),
    }
    unseen = None
    try:
        _show(json.dumps(metrics))
    except Failure as failure:
        unseen = failure
    written = []
    try:
        for name, save in _files(metrics, outcome):
            folder.write(name, save)
            written.append(name)
    except (OSError, MemoryError) as error:
        raise Failure(
            f"cannot write all results to '{folder.path}' (written: "
            f"{', '.join(written) or 'nothing'}): {_reason(error)}"
        ) from None
    print(f"Wrote {', '.join(written)} to {folder.path}", file=sys.stderr)
    if unseen is not None:
        raise unseen


def _files(metrics, outcome) -> Iterator[tuple[str, Callable[[pathlib.Path], object]]]:
    """Yield the name of each file and the function that saves it. Metrics come before figures."""
    text = json.dumps(metrics, indent=2) + "\n"
    yield METRICS, lambda path: path.write_text(text)
    for name, figure in outcome.figures.items():
        yield f"{name}.png", figure.savefig
    for name, animation in outcome.animations.items():
        from .plots import save_gif

        yield f"{name}.gif", functools.partial(save_gif, animation)


def _show(text: str) -> None:
    """Print results to stdout, which gets no other text."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise Failure(f"cannot write to stdout: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return the reason of an error that was caused outside the program."""
    if isinstance(error, MemoryError):
        return str(error) or "out of memory"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


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
