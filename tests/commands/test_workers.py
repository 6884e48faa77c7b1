"""`--workers auto`: measured by the first rank, shared with the others, told in one wording."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dsrface.commands.shared.workers import announced, choose_workers
from dsrface.doctor.sizing.loader_model import WorkerChoice
from dsrface.engine.distributed import Ranks
from dsrface.runtime.devices import Device

CPU = Device("cpu", "cpu", "fp32", "the processor")


class Rank(Ranks):
    """One process of a job whose first rank has chosen 3."""

    def share(self, number):
        return number if self.is_main else 3

    def max(self, number):
        return number


def test_a_choice_is_told_with_its_reason():
    notes = []
    assert announced(WorkerChoice(4, "4 cores"), notes.append) == 4
    assert [note.message for note in notes] == ["workers: auto -> 4 (4 cores)"]


@pytest.mark.parametrize(
    ("asked", "is_main", "number", "told"), [(5, True, 5, 0), ("auto", True, 0, 1), ("auto", False, 3, 0)]
)
def test_only_the_first_rank_measures_and_only_when_asked(asked, is_main, number, told):
    notes = []
    dataset = [np.zeros(10)] * 300
    context = SimpleNamespace(device=CPU, ranks=Rank(0 if is_main else 1, 2), emit=notes.append)
    chosen = choose_workers(asked, dataset, batch_size=8, context=context)
    assert (chosen, len(notes)) == (number, told)
