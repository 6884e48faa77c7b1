"""Run a command in a process of its own, which a fault may end, and say what became of it."""

from __future__ import annotations

import multiprocessing
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.faults.commands import commands
from tests.faults.injector import Injector

FAILED = 70
_CAN_FORK = "fork" in multiprocessing.get_all_start_methods()


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: its exit code, the number of its file operations, and its error, if any."""

    code: int
    operations: int = 0
    said: str = "nothing said"


@dataclass(frozen=True)
class Attempt:
    """One run of a command, with one fault or none.

    Args:
        inputs: What `make_inputs` has made.
        number: Which of `commands(inputs)`.
        out: The folder to run it in.
        flag: A switch that an earlier attempt's message has named.
        kind: One of `KINDS`.
        at: The file operation that fails, from 0; -1 for none.
    """

    inputs: Path
    number: int
    out: Path
    flag: str = ""
    kind: str = "kill"
    at: int = -1

    def run(self) -> Outcome:
        """Run it in this process, whatever may come."""
        injector = Injector(self.kind, self.at)
        try:
            with injector.installed():
                code = commands(self.inputs)[self.number].run(self.out, flag=self.flag)
        except BaseException:
            return Outcome(FAILED, injector.count, traceback.format_exc().strip().splitlines()[-1])
        return Outcome(code, injector.count)


class Child:
    """The process that makes attempts: a fork for each; where there is no fork, one that is kept."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork") if _CAN_FORK else multiprocessing.get_context("spawn")
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, attempt: Attempt) -> Outcome:
        """Make an attempt; a death is an outcome as well."""
        self._pipe.send(attempt)
        try:
            outcome: Outcome = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return Outcome(self._process.exitcode)
        return outcome

    @property
    def is_alive(self) -> bool:
        """Whether it can make another attempt."""
        return bool(self._process.is_alive())

    def end(self) -> None:
        """Let it go."""
        if self.is_alive:
            self._pipe.send(None)
        self._process.join()
        self._pipe.close()


_kept: list[Child] = []


def run_apart(attempt: Attempt) -> Outcome:
    """Make an attempt in another process."""
    child = _kept.pop() if _kept else Child()
    outcome = child.run(attempt)
    if _CAN_FORK or not child.is_alive:
        child.end()
    else:
        _kept.append(child)
    return outcome


def make(inputs: Path, name: str, out: Path) -> None:
    """Run the first command of this name in `out`; it must end well."""
    names = [command.name for command in commands(inputs)]
    outcome = run_apart(Attempt(inputs, names.index(name), out))
    assert outcome.code == 0, f"{name} does not even run: {outcome}"


def _serve(pipe: Connection) -> None:
    """Make the attempts that arrive, until there is none."""
    for attempt in iter(pipe.recv, None):
        pipe.send(attempt.run())
