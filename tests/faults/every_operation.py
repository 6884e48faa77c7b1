"""Break one file operation of a command, run it again, and compare with a run that nothing has broken."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.attempts import FAILED, Attempt, Outcome, run_apart
from tests.faults.commands import commands
from tests.faults.injector import KILLED, KINDS


@dataclass(frozen=True)
class Broken:
    """What became of a command of which one file operation was broken; without a `problem` all is well."""

    command: str
    kind: str
    at: int
    problem: str


class Trial:
    """A command, the number of its file operations, and what it makes when nothing is broken."""

    def __init__(self, inputs: Path, number: int, folder: Path) -> None:
        self.command, self.folder = commands(inputs)[number], folder
        self._attempt = Attempt(inputs, number, folder / "out")
        out = self._fresh()
        outcome = run_apart(self._attempt)
        assert outcome.code == 0, f"{self.command.name} does not even run: {outcome}"
        self.num_operations = outcome.operations
        self.expected = self.command.result(out)

    def points(self, limit: int | None, *, seed: int) -> Iterator[tuple[str, int]]:
        """Yield the faults to inject: all, or so many drawn with the seed."""
        every = [(kind, at) for kind in KINDS for at in range(self.num_operations)]
        if limit is not None and limit < len(every):
            every = sorted(random.Random(seed).sample(every, limit))
        yield from every

    def break_at(self, kind: str, at: int) -> Broken:
        """Inject one fault, run the command again as a person would, and judge what is there then."""
        out = self._fresh()
        first = run_apart(replace(self._attempt, kind=kind, at=at))
        problem = self._first_problem(kind, first) or self._second_problem(out, first)
        return Broken(self.command.name, kind, at, problem)

    def _first_problem(self, kind: str, first: Outcome) -> str:
        if kind == "kill":
            return "" if first.code in (0, KILLED) else f"killed, but the exit code is {first.code}"
        return f"a traceback: {first.said}" if first.code == FAILED or first.code < 0 else ""

    def _second_problem(self, out: Path, outcome: Outcome) -> str:
        if outcome.code:
            outcome = run_apart(self._attempt)
        for flag in ("resume", "force"):
            if outcome.code and f"--{flag}" in self._hint(out):
                outcome = run_apart(replace(self._attempt, flag=flag))
        if outcome.code:
            said = self._hint(out) or outcome.said
            return f"the command cannot be run again: exit code {outcome.code}, {said}"
        if self.command.result(out) != self.expected:
            return "the result differs from that of an unbroken run"
        left = [path.name for path in out.rglob("*.tmp")] + [path.name for path in out.rglob(".tmp-*")]
        return f"left behind: {left[:3]}" if left else ""

    def _hint(self, out: Path) -> str:
        said = out / "said.json"
        return str(json.loads(said.read_text())["hint"]) if said.exists() else ""

    def _fresh(self) -> Path:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        self.command.arrange(out)
        return out
