"""What import contracts cannot say about the source: one door for each delicate call."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dsrface"
# The call, as it is written -> the only modules that may make it.
DOORS = {
    "Image.open": {"data/decode.py", "data/degrade.py"},  # degrade reads what it has just written to memory
    # The doctor's own proves its verdicts; and what stands for a loader of fastai is the user's.
    "DataLoader": {"data/loaders.py", "doctor/proof/loaders.py", "doctor/fastai_loader.py"},
    "SummaryWriter": {"engine/sinks.py"},
    "torch.load": {"models/weight_files.py", "engine/checkpoint.py"},
    "time.time": {"runtime/process_age.py"},  # all else is measured by clocks that never go back
}


@functools.cache
def callers() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.setdefault(ast.unparse(node.func), set()).add(name)
    return found


@pytest.mark.parametrize("call", DOORS)
def test_a_delicate_call_has_one_door(call):
    assert callers().get(call) == DOORS[call]
