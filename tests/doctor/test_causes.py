"""Why items repeat or vary: a generator, code that seeds, a clock, what was loaded before."""

from __future__ import annotations

import collections
import sys
import types

import numpy as np
import pytest
import torch

from dsrface.doctor.checks.installation import worker_threads_check
from dsrface.doctor.checks.randomness import _hidden_generator, _seeding_code
from dsrface.doctor.proof import compare
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.kinds import held_kind

NEVER_DRAWN = [np.random.default_rng(0)]


class ByDefault:
    def __len__(self):
        return 4

    def jitter(self, value, rng=np.random.default_rng(1)):  # noqa: B008 - the specimen
        return value + rng.normal()

    def __getitem__(self, index):
        return torch.tensor(self.jitter(index))


class Seeding(ByDefault):
    def __getitem__(self, index):
        torch.manual_seed(0)
        return torch.rand(1)


def test_the_generator_that_items_draw_from_is_named_and_no_other():
    assert "jitter" in _hidden_generator(Target(ByDefault()))[0]
    assert _hidden_generator(Target(Seeding())) == []
    [line] = _seeding_code(Target(Seeding()))
    assert "test_causes.py:" in line
    assert line.endswith("in __getitem__")


class Clocked:
    """A clock that goes on by a second whenever the comparison waits."""

    def __init__(self):
        self.now = 0

    def sleep(self, _):
        self.now += 1


@pytest.mark.parametrize("is_by_clock", [True, False])
def test_items_that_depend_on_what_was_loaded_are_not_laid_to_the_clock(monkeypatch, is_by_clock):
    clock, recent = Clocked(), collections.deque(maxlen=3)
    monkeypatch.setattr(compare, "time", clock)

    def item(key):
        if key not in recent:
            recent.append(key)
        return torch.tensor(clock.now if is_by_clock else [*recent, key])

    dataset = types.SimpleNamespace()
    reference = types.SimpleNamespace(
        target=types.SimpleNamespace(is_batched=True, dataset=dataset), item=item
    )
    keys = list(range(8))
    suspects = {str(key): compare._Suspect(keys, key, {""}) for key in keys}
    found = compare.Comparison()
    compare._look_into(found, suspects, [], reference)
    assert found.varying == len(keys)
    assert (found.by_clock > 0) == is_by_clock


def test_the_threads_of_torch_are_counted():
    notes = [{"torch_threads": 4, "cv2_threads": None, "affinity": 2}]
    assert "runs 4 threads" in worker_threads_check(notes, 2, None).summary


def test_an_object_that_prints_is_not_answered_with_opening_a_path():
    error = "TypeError: cannot pickle '_io.TextIOWrapper' object"
    assert held_kind(object(), sys.__stderr__, error) == "other"
    assert held_kind(object(), object(), error) == "file"
