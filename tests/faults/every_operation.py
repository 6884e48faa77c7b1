"""Break one file operation of a command, run it again, and compare with a run that nothing has broken."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import Command
from tests.faults.injector import FAILED, KILLED, KINDS, Injector, in_child


@dataclass(frozen=True)
class Broken:
    """What became of a command of which one file operation was broken; without a `problem` all is well."""

    command: str
    kind: str
    at: int
    problem: str


class Trial:
    """A command, the number of its file operations, and what it makes when nothing is broken."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder = command, folder
        out = self._fresh()
        counter = Injector()

        def count() -> int:
            counter.install()
            code = command.run(out)
            os.write(pipe, str(counter.count).encode())
            return code

        source, pipe = os.pipe()
        code = in_child(count, folder / "log.txt")
        os.close(pipe)
        with os.fdopen(source) as text:
            answer = text.read()
        assert code == 0, f"{command.name} does not even run: {code}, {self._said()}"
        self.num_operations = int(answer)
        self.expected = command.result(out)

    def points(self, limit: int | None, *, seed: int) -> Iterator[tuple[str, int]]:
        """Yield the faults to inject: all, or so many drawn with the seed."""
        every = [(kind, at) for kind in KINDS for at in range(self.num_operations)]
        if limit is not None and limit < len(every):
            every = sorted(random.Random(seed).sample(every, limit))
        yield from every

    def break_at(self, kind: str, at: int) -> Broken:
        """Inject one fault, run the command again as a person would, and judge what is there then."""
        out = self._fresh()

        def broken() -> int:
            Injector(kind, at).install()
            return self.command.run(out)

        first = in_child(broken, self.folder / "log.txt")
        problem = self._first_problem(kind, first) or self._second_problem(out, is_done=first == 0)
        return Broken(self.command.name, kind, at, problem)

    def _first_problem(self, kind: str, code: int) -> str:
        if kind == "kill":
            return "" if code in (0, KILLED) else f"killed, but the exit code is {code}"
        return f"a traceback: {self._said()}" if code == FAILED or code < 0 else ""

    def _second_problem(self, out: Path, *, is_done: bool) -> str:
        code = 0 if is_done else in_child(lambda: self.command.run(out), self.folder / "log.txt")
        for flag in ("resume", "force"):
            if code and f"--{flag}" in self._hint(out):
                code = in_child(lambda flag=flag: self.command.run(out, flag=flag), self.folder / "log.txt")
        if code:
            return f"the command cannot be run again: exit code {code}, {self._hint(out) or self._said()}"
        if self.command.result(out) != self.expected:
            return "the result differs from that of an unbroken run"
        left = [path.name for path in out.rglob("*.tmp")] + [path.name for path in out.rglob(".tmp-*")]
        return f"left behind: {left[:3]}" if left else ""

    def _hint(self, out: Path) -> str:
        said = out / "said.json"
        return str(json.loads(said.read_text())["hint"]) if said.exists() else ""

    def _said(self) -> str:
        log = self.folder / "log.txt"
        return log.read_text().strip().splitlines()[-1] if log.exists() else "nothing said"

    def _fresh(self) -> Path:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        (self.folder / "log.txt").unlink(missing_ok=True)
        self.command.arrange(out)
        return out
