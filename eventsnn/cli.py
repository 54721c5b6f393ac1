"""Entry point of the command line. Ctrl-C and broken streams end with a one-line message.

No slow import comes before the handler of Ctrl-C is set. The commands are in `commands.py`.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    **Arguments:**

    - `argv`: the arguments of the command line, to run a command inside another program. Its
        streams and its handler of Ctrl-C are then left unchanged. Default: None, the arguments of
        the process.

    **Returns:** the exit code. All codes except 0 come with one line on stderr.

    - 0: success.
    - 1: training failed, or a result could not be written.
    - 2: invalid option or value, a folder that cannot be written, is in use by another run or has
        an unfinished one, data that cannot be read, or JAX without the requested devices.
    - 130: Ctrl-C.

    **Raises:** `SystemExit` with code 2 for an invalid option or value, if `argv` is given.
    """
    if argv is not None:
        try:
            return _run(argv)
        except KeyboardInterrupt:
            return _print_line(_interrupted(), 130)
    _open_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if it is ignored
        signal.signal(signal.SIGINT, _stop)
    os.environ["MPLBACKEND"] = "agg"  # Figures are files, and a GUI backend may be missing.
    try:
        code = _run(sys.argv[1:])
    except SystemExit as stop:  # of argparse
        code = stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:  # after the steps during which `_stop` was called
        code = _print_line(_interrupted(), 130)
    code = _flush(code)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Nothing is left to interrupt.
    return code


def _run(argv):
    try:
        from . import commands
    except (ImportError, RuntimeError, ValueError) as error:  # e.g. for JAX_NUM_CPU_DEVICES=abc
        return _print_line(f"error: import failed: {error}", 2)
    try:
        return commands.run(argv)
    except commands.Failure as failure:
        code = _print_line(f"error: {failure}", failure.code)
        if isinstance(failure, commands.WrongUsage):
            raise SystemExit(code) from None
        return code


def _print_line(message, code):
    """Print a one-line message on stderr and return the exit code."""
    print(f"eventsnn: {_as_line(message)}", file=sys.stderr)
    return code


def _as_line(message):
    line = " ".join(message.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _interruption():
    """Interruption of the commands, None before they are imported."""
    return getattr(sys.modules.get(f"{__package__}.commands"), "interruption", None)


def _interrupted():
    """Message after Ctrl-C."""
    interruption = _interruption()
    return "interrupted" if interruption is None else interruption.message()


def _stop(signum, frame):
    """Handler of Ctrl-C, which ends the process without raising an exception.

    An exception in the middle of an import ends in a traceback or a crash. In a callback of the
    garbage collector it is lost. During training, the first Ctrl-C only requests a stop after the
    current steps, so that a checkpoint is written.
    """
    pending = _interruption()
    if pending is not None and pending.active and not pending.requested:
        pending.requested = True
        text = "stopping after these steps, for --resume; Ctrl-C again to stop at once"
        os.write(2, f"{_line_end()}eventsnn: {text}\n".encode())
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        discard = getattr(sys.modules.get(f"{__package__}.results"), "discard", None)
        if discard is not None:
            discard()
        os.write(2, f"{_line_end()}eventsnn: {_as_line(_interrupted())}\n".encode())
    finally:
        os._exit(130)


def _line_end():
    """Text that ends the line of the progress bar."""
    return sys.stderr.line_end() if isinstance(sys.stderr, _Stderr) else ""


def _open_streams():
    """Make stdout and stderr writable streams.

    If they are closed, reserve their file descriptors, so that no other file gets them.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while os.open(os.devnull, os.O_RDWR) < 2:
            pass
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
    sys.stderr = _Stderr(
        io.FileIO(2, "w", closefd=False),
        encoding=getattr(sys.stderr, "encoding", "utf-8"),
        errors="backslashreplace",
        write_through=True,
    )


class _Stderr(io.TextIOWrapper):
    """Stream to stderr that discards all output after the first failed write.

    A run continues even if nothing reads its progress bar.
    """

    _text = ""

    def write(self, text):
        self._text = text or self._text
        try:
            return super().write(text)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            return len(text)

    def line_end(self):
        """Text that ends the line of the progress bar. On a terminal it erases the bar."""
        if self._text.endswith("\n") or not self._text:
            return ""
        return "\r\x1b[K" if self.isatty() else "\n"


def _flush(code):
    try:
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes again at exit, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return code or _print_line(f"error: cannot write to stdout: {error.strerror}", 1)
    return code
