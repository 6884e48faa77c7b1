"""`python -m tests.faults.campaign`: inject faults under a fixed seed and print what became of them.

Every file operation of every command is broken in three ways (the process is killed, the disk is full, the
disk is broken), and bits are flipped in caches, checkpoints and trainer states.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dsrface.data.outputs.verify import verify
from dsrface.engine.checkpoint import load_trainer_state, verify_checkpoint
from dsrface.errors import RunError
from tests.faults.attempts import make
from tests.faults.commands import commands
from tests.faults.every_operation import Trial
from tests.faults.injector import KINDS
from tests.faults.inputs import make_inputs

SEED = 0
TRAININGS = ("train-dsr", "finetune")


@dataclass
class Row:
    """One line of the table."""

    test: str
    tried: int = 0
    ok: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, problem: str) -> None:
        """Count one fault; `problem` is empty when it was borne."""
        self.tried += 1
        self.ok += not problem
        if problem:
            self.problems.append(problem)


def main() -> int:
    """Run the campaign; 1 when a fault was not borne."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, help="at most so many for each command; all without it")
    parser.add_argument(
        "--trainings", type=int, default=60, help="at most so many for a training, which is slow"
    )
    parser.add_argument("--flips", type=int, default=150, help="bits to flip in each kind of file")
    parser.add_argument("--skip", nargs="*", default=[], help="commands to leave out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder / "inputs")
        rows = []
        for number, command in enumerate(commands(folder / "inputs")):
            if command.name in options.skip:
                continue
            limit = options.trainings if command.name in TRAININGS else options.faults
            rows += broken_operations(folder / "inputs", number, folder / str(number), limit)
        rows += flips(folder / "inputs", folder / "flips", options.flips)
    show(rows, time.monotonic() - started)
    return int(any(row.problems for row in rows))


def broken_operations(inputs: Path, number: int, folder: Path, limit: int | None) -> list[Row]:
    """Break the file operations of a command one by one."""
    folder.mkdir()
    trial = Trial(inputs, number, folder)
    command = trial.command
    label = f"{command.name} {command.flags.get('format', '')}".strip()
    rows = {kind: Row(f"{label}: {trial.num_operations} file operations, {kind}") for kind in KINDS}
    for kind, at in trial.points(limit, seed=SEED):
        broken = trial.break_at(kind, at)
        rows[kind].count(f"at {at}: {broken.problem}" if broken.problem else "")
    print(label, Counter({row.test: row.tried for row in rows.values()}).total(), flush=True)
    return list(rows.values())


def flips(inputs: Path, folder: Path, count: int) -> list[Row]:
    """Flip bits in what commands have written; each must be found before anything is made of it."""
    made = {}
    for name, place in (("precompute", "sr"), ("train-dsr", "run")):
        out = folder / name
        out.mkdir(parents=True)
        make(inputs, name, out)
        made[name] = out / place
    [*_, checkpoint] = sorted((made["train-dsr"] / "checkpoints").iterdir())
    rows = [
        flipped(f"cache, a bit of {pattern}", made["precompute"], pattern, count, _cache_problem)
        for pattern in ("*.u8", "*.idx", "table-*", "manifest.json")
    ]
    rows += [
        flipped(f"checkpoint, a bit of {name}", checkpoint, name, count, _checkpoint_problem)
        for name in ("model.safetensors", "trainer.pt")
    ]
    return rows


def flipped(test: str, folder: Path, pattern: str, count: int, problem: Callable[[Path], str]) -> Row:
    """Flip drawn bits of a file, one at a time, and ask whether each is found."""
    row, draws = Row(test), random.Random(SEED)
    files = sorted(folder.rglob(pattern))
    for _ in range(count):
        path = draws.choice(files)
        whole = path.read_bytes()
        at, bit = draws.randrange(len(whole)), draws.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        found = problem(folder)
        row.count(f"{path.name}, byte {at}, bit {bit}: {found}" if found else "")
        path.write_bytes(whole)
    assert problem(folder), "the restored files are damaged"
    return row


def _cache_problem(folder: Path) -> str:
    try:
        found = [
            problem
            for manifest in folder.rglob("manifest.json")
            for problem in verify(manifest.parent).problems
        ]
    except RunError:
        return ""
    return "" if found else "not found"


def _checkpoint_problem(folder: Path) -> str:
    try:
        verify_checkpoint(folder)
        load_trainer_state(folder)
    except RunError:
        return ""
    return "not found"


def show(rows: list[Row], seconds: float) -> None:
    """Print the table, and below it what was not borne."""
    print("\n| test | tried | ok |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {row.test} | {row.tried} | {row.ok} |")
    tried, ok = sum(row.tried for row in rows), sum(row.ok for row in rows)
    print(f"| all, seed {SEED}, {seconds / 60:.0f} minutes | {tried} | {ok} |")
    for row in rows:
        for problem in row.problems:
            print(f"- {row.test} {problem}")


if __name__ == "__main__":
    sys.exit(main())
