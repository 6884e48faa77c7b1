"""`--workers auto`: measured by the first rank, shared with the others, told in one wording."""

from __future__ import annotations

import numpy as np
import pytest

from dsrface.commands.shared.workers import announced, choose_workers
from dsrface.doctor.sizing.loader_model import WorkerChoice
from dsrface.runtime.devices import Device

CPU = Device("cpu", "cpu", "fp32", "the processor")


class Rank:
    """One process of a job whose first rank has chosen 3."""

    def __init__(self, is_main):
        self.is_main = is_main

    def share(self, number):
        return number if self.is_main else 3


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
    chosen = choose_workers(asked, dataset, batch_size=8, device=CPU, ranks=Rank(is_main), emit=notes.append)
    assert (chosen, len(notes)) == (number, told)
