"""Commands of the command line: `eventsnn run TASK`, `eventsnn tasks` and `eventsnn info`."""

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import platform
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from . import __version__, earlier
from .results import METRICS, Folder
from .tasks import TASKS, DataError, Task, TaskResult, saved, settings
from .tasks.settings import flag
from .versions import versions

_METAVARS = {int: "N", float: "X", str: "PATH"}


class Failure(Exception):
    """Error that ends a command, with a one-line message and the exit code."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class WrongUsage(Failure):
    """Invalid option, or invalid value of an option."""


class Interruption:
    """Request to stop the training after the current steps, so that a checkpoint is written.

    A callback of `fit`. Before the first steps, and after the training, it is not `active`.
    """

    def __init__(self):
        self.active = self.requested = False
        self._out, self._argv = None, ()

    def begin(self, out: pathlib.Path | None, argv: Sequence[str] = ()) -> None:
        """Note the results folder and the arguments of a run; None: there is no run."""
        self._out, self._argv = out, tuple(argv)

    def message(self) -> str:
        """Message at the end: the step of the last checkpoint, and the command that continues."""
        step = None if self._out is None else earlier.step(self._out)
        if step is None:
            return "interrupted"
        given = [word for word in self._argv if word != "--resume"]
        command = shlex.join(["eventsnn", *given, "--resume"])
        return f"interrupted; to continue from step {step}: {command}"

    def __call__(self, progress: Any) -> None:
        """Raise `KeyboardInterrupt` after the steps in `progress`, if a stop is requested."""
        self.active = progress.step < progress.steps
        if self.requested:
            raise KeyboardInterrupt


interruption = Interruption()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Only one line, without the usage text, which would hide it.
        raise WrongUsage(message, 2)

    def print_help(self, file=None) -> None:
        _print(self.format_help().rstrip())


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        _print(f"eventsnn {__version__}")
        parser.exit()


def run(argv: Sequence[str]) -> int:
    """Run the command given by the arguments.

    **Returns:** the exit code, 0.

    **Raises:** [`Failure`][] if the command fails. `SystemExit` with code 0 after `--help`.
    """
    interruption.begin(None)
    options = _parse(argv)
    if options.command == "tasks":
        width = max(map(len, TASKS))
        _print("\n".join(f"{name:<{width}}  {task.summary}" for name, task in TASKS.items()))
        return 0
    if options.command == "info":
        _info(as_json=options.json)
        return 0
    task = _task(options)
    with _folder(options) as folder:
        own = {"task": task.name, "dtype": _dtype(x64=options.x64), **dataclasses.asdict(task)}
        complete = _check_earlier(folder.path, own, resume=options.resume)
        if complete is not None:
            _report_complete(task, complete, folder.path)
            return 0
        _prepare()
        checkpoint = _begin(folder.path, own)
        interruption.begin(folder.path, argv)
        result = _result(task, checkpoint=checkpoint, resume=options.resume)
        _report(task, result, folder)
    return 0


def _info(*, as_json: bool) -> None:
    """Print the report on the installation.

    **Raises:** `Failure` after the report if JAX has no devices.
    """
    from . import info

    report = info.facts()
    _print(json.dumps(report) if as_json else info.text(report))
    if report["error"] is not None:
        raise Failure(report["error"], 2)


def _check_earlier(
    out: pathlib.Path, own: earlier.Settings, *, resume: bool
) -> earlier.Settings | None:
    """Require that the earlier run in a folder, if any, can be resumed or replaced.

    **Returns:** the metrics of a complete run that would be resumed, or else None.
    """
    try:
        earlier.check(out, own, resume=resume)
        return earlier.complete(out, own) if resume else None
    except ValueError as error:
        raise WrongUsage(f"argument {'--resume' if resume else '--out'}: {error}", 2) from None


def _begin(out: pathlib.Path, own: earlier.Settings) -> pathlib.Path:
    """Create the folder of the checkpoints, and return its path."""
    try:
        return earlier.begin(out, own)
    except OSError as error:
        raise _not_writable(out / earlier.CHECKPOINTS, error) from None


def _not_writable(out: pathlib.Path, error: Exception) -> WrongUsage:
    return WrongUsage(f"argument --out: cannot write to '{out}': {_reason(error)}", 2)


def _parse(argv):
    parser = _parser()
    for argument in argv:
        option, _, value = argument.partition("=")
        if option.startswith("--") and value == "--":  # argparse treats it as no value
            parser.error(f"argument {option}: expected a value, got '--'")
    return parser.parse_args(argv)


@functools.cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser("eventsnn", description="Spiking neural networks with exact spike times.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("tasks", help="list all tasks", allow_abbrev=False)
    info = commands.add_parser(
        "info", help="show versions, devices, precision and data sets", allow_abbrev=False
    )
    info.add_argument("--json", action="store_true", help="print one line of JSON")
    run = commands.add_parser("run", help="train and test a network on a task", allow_abbrev=False)
    tasks = run.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, task in TASKS.items():
        about = f"Task: {task.summary}."
        page = tasks.add_parser(name, help=task.summary, description=about, allow_abbrev=False)
        _add_options(page, task)
    return parser


def _add_options(parser: argparse.ArgumentParser, task: type[Task]) -> None:
    parser.add_argument(
        "--out",
        type=_text,
        metavar="PATH",
        help=f"folder for the metrics, the network and the pictures (default: runs/{task.name})",
    )
    quick = ", ".join(f"{flag(name)} {value}" for name, value in task.quick_settings.items())
    parser.add_argument(
        "--quick", action="store_true", help=f"short run to check that the task works: {quick}"
    )
    parser.add_argument(
        "--x64", action="store_true", help="compute in float64 instead of float32 (default: no)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the interrupted run in the folder, which must have the same settings, from "
        "its last checkpoint, at most a minute before its end; if the run is complete, only print "
        "its metrics; if there is no run, start a new one",
    )
    group = parser.add_argument_group("settings of the task")
    for name, setting in task.options().items():
        choices = setting.metadata["choices"]
        metavar = f"{{{','.join(choices)}}}" if choices else _METAVARS[settings.kind(setting)]
        text = f"{setting.metadata['help']} (default: {default_text(task, name)})"
        group.add_argument(
            flag(name),
            type=functools.partial(_value, setting),
            metavar=metavar,
            help=text.replace("%", "%%"),  # argparse formats it
        )


def default_text(task: type[Task], name: str) -> str:
    """Text of the default of a setting: one value, or one for each choice on which it depends."""
    options = task.options()
    if options[name].default is not None:
        return str(options[name].default)
    choices = {key: option.metadata["choices"] for key, option in options.items()}
    choices = {key: values for key, values in choices.items() if values}
    values = {
        chosen: getattr(task(**dict(zip(choices, chosen, strict=True))), name)
        for chosen in itertools.product(*choices.values())
    }
    if set(values.values()) == {None}:
        return options[name].metadata["unset"]
    # Omit the choices that do not affect the value.
    for i in reversed(range(len(choices))):
        shorter = {(*chosen[:i], *chosen[i + 1 :]): value for chosen, value in values.items()}
        if all(values[chosen] == shorter[(*chosen[:i], *chosen[i + 1 :])] for chosen in values):
            values = shorter
    if len(values) == 1:
        return str(*values.values())
    return ", ".join(f"{value} for {' and '.join(chosen)}" for chosen, value in values.items())


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be text, got ''")
    return text


def _value(setting: settings.Setting, text: str) -> int | float | str:
    try:
        return settings.parse(setting, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _task(options: argparse.Namespace) -> Task:
    task = TASKS[options.task]
    given = {name: getattr(options, name) for name in task.options()}
    given = {name: value for name, value in given.items() if value is not None}
    return task(**{**(task.quick_settings if options.quick else {}), **given})


def _folder(options: argparse.Namespace) -> Folder:
    """Open the folder for the results, and check before training that it can be used."""
    out = pathlib.Path(options.out or pathlib.Path("runs", options.task))
    pictures = {name for task in TASKS.values() for name in task.pictures}
    try:
        folder = Folder(out, sorted({saved.MODEL, *pictures}))
    except BlockingIOError:
        raise WrongUsage(f"argument --out: '{out}' is in use by another run", 2) from None
    except (OSError, ValueError) as error:
        raise _not_writable(out, error) from None
    if not folder.locked:
        print(
            f"eventsnn: '{out}' cannot be locked: a second run in it would not be noticed",
            file=sys.stderr,
        )
    return folder


def _dtype(*, x64: bool) -> str:
    """Set the precision, and return the name of its type."""
    import jax

    if x64:
        jax.config.update("jax_enable_x64", True)
    return str(jax.dtypes.canonicalize_dtype(float))


def _prepare() -> None:
    """Open the devices of JAX, and import matplotlib, so that failures come early."""
    from . import devices
    from .cpu import prepare_cpu

    prepare_cpu()
    try:
        devices.opened()
    except RuntimeError as error:
        raise Failure(str(error), 2) from None
    try:
        from . import plots as plots
    except (ImportError, ValueError) as error:
        raise Failure(f"matplotlib cannot be imported: {error}", 2) from None


def _result(task: Task, **options: Any) -> TaskResult:
    """Train and test, with options of `fit`."""
    import jax

    try:
        return task.run(callbacks=[interruption], **options)
    except DataError as error:
        raise Failure(str(error), 2) from None
    except ValueError as error:
        if not _is_own(error):
            raise
        raise Failure(str(error), 2) from None
    except FloatingPointError as error:
        raise Failure(str(error)) from None
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        raise Failure(f"training failed: {_reason(error).splitlines()[0]}") from None
    finally:
        interruption.active = interruption.requested = False


def _is_own(error: Exception) -> bool:
    """Return whether this package raised the error, and not a library that it calls."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return pathlib.Path(last.filename).is_relative_to(pathlib.Path(__file__).parent)


def _report(task: Task, result: TaskResult, folder: Folder) -> None:
    """Print the metrics, write all files, figures last, and remove the checkpoints."""
    metrics = {
        "task": task.name,
        **result.metrics,
        **dataclasses.asdict(task),
        **_machine(),
    }
    not_printed = None
    try:
        _print(json.dumps(metrics))
    except Failure as failure:
        not_printed = failure
    written = []
    try:
        for name, save in _files(metrics, task, result):
            folder.write(name, save)
            written.append(name)
    except (OSError, MemoryError) as error:
        raise Failure(
            f"cannot write all results to '{folder.path}' (written: "
            f"{', '.join(written) or 'nothing'}): {_reason(error)}"
        ) from None
    earlier.end(folder.path)
    print(f"Wrote {', '.join(written)} to {folder.path}", file=sys.stderr)
    if not_printed is not None:
        raise not_printed


def _report_complete(task: Task, metrics: Mapping[str, Any], out: pathlib.Path) -> None:
    """Print the metrics of a complete run, and the files that it left."""
    _print(json.dumps(metrics))
    left = [name for name in (METRICS, saved.MODEL, *task.pictures) if (out / name).exists()]
    text = f"the run in '{out}' is complete and is left as it is: {', '.join(left)}"
    print(f"eventsnn: {text}", file=sys.stderr)


def _files(metrics, task, result) -> Iterator[tuple[str, Callable[[pathlib.Path], object]]]:
    """Yield the name of each file and the function that saves it: metrics, network, figures."""
    text = json.dumps(metrics, indent=2) + "\n"
    yield METRICS, lambda path: path.write_text(text)
    if result.model is not None:
        yield saved.MODEL, lambda path: saved.write(path, task, result)
    for name, figure in result.figures.items():
        own = figure.get_suptitle()
        title = f"{_title(metrics)}\n{own}" if own else _title(metrics)
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=10)
        yield f"{name}.png", figure.savefig
    for name, animation in result.animations.items():
        from .plots import save_gif

        yield f"{name}.gif", functools.partial(save_gif, animation)


#: Main results of the tasks, and how they are written in a title.
_RESULTS = {
    "test_accuracy": "test accuracy {:.1%}",
    "test_mae": "test error {:.3g} ms",
    "relative_error": "relative error {:.3g}",
    "timing_error": "timing error {:.2g} ms",
    "right_counts": "right numbers of spikes {:.0%}",
    "mean_rate": "mean rate {:.3g} Hz",
    "cv": "CV {:.2f}",
    "correlation": "correlation {:.2g}",
}


def _title(metrics: Mapping[str, Any]) -> str:
    """Title of all figures: task, seed and result."""
    results = [text.format(metrics[name]) for name, text in _RESULTS.items() if name in metrics]
    return ", ".join([metrics["task"], f"seed {metrics['seed']}", *results])


def _print(text: str) -> None:
    """Print results to stdout, which gets no other text."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise Failure(f"cannot write to stdout: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return the message of the operating system for an error, or else that of the error."""
    if isinstance(error, MemoryError):
        return str(error) or "out of memory"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _machine() -> dict[str, object]:
    import jax

    device = jax.devices()[0]
    return {
        "dtype": str(jax.numpy.result_type(float)),
        "platform": device.platform,
        "device": platform.machine() if device.platform == "cpu" else device.device_kind,
        "device_count": jax.device_count(),
        "versions": versions(),
    }
