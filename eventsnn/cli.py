"""Entry of the command line: whatever runs, Ctrl-C and broken streams end in one line.

Nothing that takes long is imported before the handler of Ctrl-C is set. The commands themselves are
in `commands.py`.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` defaults to the arguments of the process.

    **Returns:** the exit code. 0; 1 where training failed or a result could not be written; 2 for
    a wrong option or value, a folder that cannot be written or is in use by another run, data that
    cannot be read, and JAX without the devices that it was told to use; 130 after Ctrl-C. All but 0
    come with one line on stderr. With an `argv`, inside another program, a wrong option or value
    raises `SystemExit` with code 2, and its streams and handler of Ctrl-C stay as they are.
    """
    if argv is not None:
        try:
            return _run(argv)
        except KeyboardInterrupt:
            return _say("interrupted", 130)
    _open_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, _stop)
    os.environ["MPLBACKEND"] = "agg"  # Pictures are files, and a backend may be missing.
    try:
        code = _run(sys.argv[1:])
    except SystemExit as stop:  # of argparse
        code = stop.code if isinstance(stop.code, int) else 0
    code = _flush(code)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Nothing is left to be interrupted.
    return code


def _run(argv):
    try:
        from . import commands
    except (ImportError, RuntimeError, ValueError) as error:  # e.g. for JAX_NUM_CPU_DEVICES=abc
        return _say(f"error: import failed: {error}", 2)
    try:
        return commands.run(argv)
    except commands.Failure as failure:
        code = _say(f"error: {failure}", failure.code)
        if isinstance(failure, commands.WrongUsage):
            raise SystemExit(code) from None
        return code


def _say(message, code):
    """Print the one line on stderr that goes with an exit code, which is returned."""
    line = " ".join(message.split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"eventsnn: {line}", file=sys.stderr)
    return code


def _stop(signum, frame):
    """Handler of Ctrl-C. It raises no exception: in the middle of an import that ends in a
    traceback or a crash, and in a callback of the garbage collector it is lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        discard = getattr(sys.modules.get(f"{__package__}.results"), "discard", None)
        if discard is not None:
            discard()
        before = sys.stderr.line_end() if isinstance(sys.stderr, _Stderr) else ""
        os.write(2, f"{before}eventsnn: interrupted\n".encode())
    finally:
        os._exit(130)


def _open_streams():
    """Make stdout and stderr streams that can be written, and keep their numbers from other files
    if they are closed."""
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
    """stderr, or nothing once it cannot be written: a run needs no reader of its progress bar."""

    _text = ""

    def write(self, text):
        self._text = text or self._text
        try:
            return super().write(text)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            return len(text)

    def line_end(self):
        """What ends a line that is begun, the progress bar: on a screen the bar is erased."""
        if self._text.endswith("\n") or not self._text:
            return ""
        return "\r\x1b[K" if self.isatty() else "\n"


def _flush(code):
    try:
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes once more, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return code or _say(f"error: cannot write to stdout: {error.strerror}", 1)
    return code
