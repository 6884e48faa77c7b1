"""What a person or a program sees: results on stdout, everything else on stderr, errors in one shape.

No text of a user's (paths, names, messages) goes through rich's markup, and none brings control characters.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import logging
import os
import signal
import sys
import tempfile
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from dsrface.cli.missing import near_path
from dsrface.errors import EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED, DsrfaceError, MachineError
from dsrface.runtime.devices import is_out_of_memory, out_of_memory
from dsrface.runtime.ending import ending_signals, exit_code_of
from dsrface.runtime.error_texts import error_texts
from dsrface.runtime.text import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console

REPORT_IT = "Please report it, with that file."


class Result(Protocol):
    """What every command returns."""

    @property
    def summary(self) -> str:
        """The result, one or two lines."""

    @property
    def location(self) -> str:
        """Where it is; may be empty."""

    @property
    def next_command(self) -> str:
        """What to run next; may be empty."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for `--json`."""


class Output:
    """Both streams of the terminal, made when they are first written to.

    Args:
        json: Results and errors as JSON.
        verbosity: -1 quiet, 0 normal, 1 and 2 for more.
    """

    def __init__(self, *, json: bool = False, verbosity: int = 0) -> None:
        self.json = json
        self.verbosity = verbosity
        self.goes_on_with: Callable[[], str] = str  # the command that goes on where this one is interrupted

    @cached_property
    def out(self) -> Console:
        """Console on stdout; width, NO_COLOR and FORCE_COLOR are read when it is made."""
        return _console(is_stderr=False)

    @cached_property
    def err(self) -> Console:
        """Console on stderr."""
        return _console(is_stderr=True)

    def line(self, text: str, *, style: str | None = None) -> None:
        """Print a line of the result; it is never cut or wrapped, so paths can be copied."""
        _print(self.out, text, style)

    def note(self, text: str, *, style: str | None = None) -> None:
        """Print a line that is not the result."""
        _print(self.err, text, style)

    def document(self, value: object) -> None:
        """Print the one JSON document of a `--json` command.

        Raises:
            MachineError: it could not be written, for another reason than that its reader has gone.
        """
        sys.stdout.write(json_text(value, indent=2) + "\n")
        sys.stdout.flush()
        if problem := getattr(sys.stdout, "problem", ""):
            raise MachineError(
                f"The JSON document could not be written: {problem}. What the command made is there.",
                id="cannot-write",
                where="standard output",
                hint="Give it another place, and run the same command again.",
            )

    def interrupted(self, how: str) -> None:
        """Say how the program was ended, and what goes on where it was."""
        line = self.goes_on_with()
        self.note(f"{how}; what is finished is kept" if line else how)
        if line:
            self.note(f"next   {line}")

    def facts(self, result: Result) -> None:
        """Print the three closing facts: the result, where it is, the next command."""
        self.line(result.summary, style="bold")
        if result.location:
            self.line(f"where  {result.location}")
        if result.next_command:
            self.line(f"next   {result.next_command}")

    def error(self, error: DsrfaceError) -> None:
        """Print an error: what happened, where, what to do."""
        what_to_do = error.hint or _general_hint(error.id)
        if self.json:
            sys.stderr.write(json_text({**error.as_dict(), "hint": what_to_do}) + "\n")
            return
        rank = os.environ.get("RANK")
        self.note(f"{f'rank {rank}: ' if rank else ''}error: {error.message}", style="bold red")
        if error.where:
            self.note(f"  where  {error.where}")
        if hint := "\n".join(filter(None, [near_path(error), what_to_do])):
            self.note(textwrap.indent(hint, " " * 9).replace(" " * 9, "  to do  ", 1))
        self.note(f"  about  dsrface explain {error.id}, exit code {error.exit_code}", style="dim")


def output_of(arguments: list[str]) -> Output:
    """Return the output that a command line asks for, even one that cannot be parsed."""
    return Output(json="--json" in arguments, verbosity=2 if "-vv" in arguments else 0)


@contextlib.contextmanager
def guarded(output: Output) -> Iterator[None]:
    """Turn whatever ends the block early into a message and an exit code.

    Raises:
        typer.Exit: with the code of the error's family.
    """
    try:
        yield
    except DsrfaceError as error:
        output.error(error)
        if output.verbosity >= 2:
            output.note(traceback.format_exc())
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        _say_interrupted(output)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except SystemExit as error:
        if error.code in (EXIT_TERMINATED, EXIT_HUNG_UP):
            output.interrupted("terminated")
        raise typer.Exit(error.code if isinstance(error.code, int) else 1) from None
    except Exception as error:  # noqa: BLE001 - the last line before the user
        found = _own_bug(error)
        output.error(found)
        if output.verbosity >= 2:
            output.note(traceback.format_exc())
        raise typer.Exit(found.exit_code) from None


def end_in_order() -> None:
    """Make SIGTERM and a closed terminal end the program in order, with exit code 143 or 129.

    Training installs a gentler handler.
    """

    def handle(signum: int, _: object) -> None:
        raise SystemExit(exit_code_of(signum))

    with contextlib.suppress(ValueError):  # not the main thread, as in some test runners
        for signum in ending_signals():
            if signum != signal.SIGINT:  # Python's KeyboardInterrupt does
                signal.signal(signum, handle)
        sys.unraisablehook = _send_again


def _send_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeat a signal whose exception Python dropped, as it does with all that a destructor raises."""
    signum = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(unraisable.exc_type)
    if getattr(unraisable.exc_value, "code", None) == EXIT_HUNG_UP:
        signum = signal.SIGHUP
    if signum is None:
        sys.__unraisablehook__(unraisable)
    else:  # a little later, outside the destructor
        threading.Timer(0.1, _interrupt, [signum]).start()


def _interrupt(signum: signal.Signals) -> None:
    if hasattr(signal, "pthread_kill"):  # wakes the main thread from a wait, as the first one did
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        _thread.interrupt_main(signum)


def listen_to_logs(output: Output) -> None:
    """Show log records of this program on stderr: warnings, with -v information, with -vv all of them."""
    logging.captureWarnings(capture=True)
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(output.verbosity, logging.DEBUG)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _ConsoleHandler)]:
        root.removeHandler(handler)
    root.addHandler(_ConsoleHandler(output, level))
    logging.getLogger("dsrface").setLevel(logging.DEBUG)  # run folders log everything
    quiet = logging.ERROR if output.verbosity < 1 else logging.WARNING
    logging.getLogger("py.warnings").setLevel(quiet)  # libraries' warnings are noise at first glance


class _ConsoleHandler(logging.Handler):
    def __init__(self, output: Output, level: int) -> None:
        super().__init__(level)
        self.output = output

    def emit(self, record: logging.LogRecord) -> None:
        if not self.output.json:
            self.output.note(f"{record.levelname.lower()}: {record.getMessage()}")


def _general_hint(id: str) -> str:
    """Return what to do about every error of an id; empty where that says no more than the message."""
    text = error_texts().get(id)
    return text.hint if text is not None and text.hint not in ("Read the message.", "Check the path.") else ""


def _console(*, is_stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=is_stderr, markup=False, emoji=False, highlight=False)


def _print(console: Console, text: str, style: str | None) -> None:
    from rich.text import Text

    # As a Text: a style given to print() would colour the live progress line below as well.
    console.print(Text(printable(text), style=style or ""), soft_wrap=True)


def _say_interrupted(output: Output) -> None:
    if output.json:
        sys.stderr.write(json_text({"error": "interrupted", "exit_code": EXIT_INTERRUPTED}) + "\n")
    else:
        output.interrupted("interrupted")


def _own_bug(error: Exception) -> DsrfaceError:
    """Say what a full disk or memory means; of any other error save the traceback, and say where."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        from dsrface.runtime.files import disk_error

        return disk_error(error, Path(error.filename or "."))
    if isinstance(error, OSError) and error.errno is not None:
        from dsrface.runtime.files import system_error

        return system_error(error)
    if is_out_of_memory(error):
        return out_of_memory(
            error, hint="Lower the batch size; --resident never keeps a cache out of the device's memory."
        )
    text = f"dsrface {' '.join(sys.argv[1:])}\nPython {sys.version}\n\n{traceback.format_exc()}"
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="dsrface-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as handle:
            handle.write(text)
    except OSError:
        where, hint = "", f"Run it again with -vv to see the traceback. {REPORT_IT}"
    else:
        where, hint = handle.name, f"The traceback is in that file; -vv prints it too. {REPORT_IT}"
    first = next(iter(str(error).splitlines()), "")
    return DsrfaceError(
        f"This is a bug of dsrface: {type(error).__name__}: {first}", id="internal", where=where, hint=hint
    )
