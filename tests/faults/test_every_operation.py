"""Every state on disk has a way out: a few drawn faults of each command; `nox -s faults` injects them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.every_operation import Trial
from tests.faults.inputs import make_inputs

# In the order of `commands`; those that write one file, or whose parts are tried by themselves, need few.
FAULTS = {
    **dict.fromkeys(("prepare", "train-dsr", "finetune", "precompute", "precompute png", "evaluate"), 5),
    "export": 3,
    "embed": 1,
    "enrol": 1,
    "identify": 1,
    "cache": 2,
    "demo": 1,
}
SLOW = ("train-dsr", "finetune", "evaluate")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    make_inputs(folder)
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAULTS]
)
def test_a_broken_operation_is_no_dead_end(inputs: Path, tmp_path: Path, name: str) -> None:
    trial = Trial(inputs, list(FAULTS).index(name), tmp_path)
    assert trial.num_operations > 1
    broken = [trial.break_at(kind, at) for kind, at in trial.points(FAULTS[name], seed=0)]
    assert [item for item in broken if item.problem] == []
