"""What is read of a data set before and after its items, and what is put back."""

from __future__ import annotations

import functools
import queue
import sys
import threading
import types
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from dsrface.doctor.proof.seeding import reachable
from dsrface.doctor.survey import observe
from dsrface.doctor.survey.observe import WrittenFiles, changed_contents, changed_scalars, read_state
from dsrface.doctor.trace.pickling import trace


class Rows:
    def __init__(self):
        self.todo = [3, 1, 2]
        self.count = 0
        self.answers = queue.Queue()
        self.ready = threading.Condition()


def test_a_waiting_thread_is_no_state():
    data = Rows()
    before = read_state({"dataset": data})
    data.todo.pop()
    data.count += 1
    data.answers.not_empty._waiters.append(threading.Lock())  # type: ignore[attr-defined]
    data.ready._waiters.append(threading.Lock())  # type: ignore[attr-defined]
    after = read_state({"dataset": data})
    assert changed_contents(before, after) == ["dataset.todo"]
    assert changed_scalars(before, after) == ["dataset.count"]
    assert not [path for path in after.places if "_waiters" in path]


def test_a_long_list_is_changed_by_shuffling_and_not_by_filling():
    data = types.SimpleNamespace(order=list(range(1000)), cache=[None] * 1000)
    before = read_state({"dataset": data})
    data.order[:2] = data.order[1::-1]
    data.cache[5] = data
    assert changed_contents(before, read_state({"dataset": data})) == ["dataset.order"]


@pytest.mark.parametrize("limit", [observe._MOST_ARRAY_BYTES, 0])
def test_a_row_changed_in_place_is_seen_in_a_long_array_and_in_a_file_mapped_for_writing(
    tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(observe, "_MOST_ARRAY_BYTES", limit)
    mapped = np.memmap(tmp_path / "rows", dtype="i4", mode="w+", shape=(1000, 4))
    data = types.SimpleNamespace(rows=np.zeros((1000, 4)), file=mapped)
    before = read_state({"dataset": data})
    data.rows[0] += 1
    data.file[999] += 1
    assert changed_contents(before, read_state({"dataset": data})) == ["dataset.rows", "dataset.file"]


def test_only_files_written_while_it_listens_are_counted(tmp_path):
    files, other = WrittenFiles(), WrittenFiles()
    with files.listen(), other.listen():
        (tmp_path / "a").write_text("a")
        (tmp_path / "a").read_text()
    (tmp_path / "b").write_text("b")
    assert files.counts == other.counts == {str(tmp_path / "a"): 1}


def test_one_audit_hook_serves_all_examinations_of_a_process(monkeypatch):
    hooks = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(observe, "_install_hook", functools.cache(observe._install_hook.__wrapped__))
    for _ in range(3):
        with WrittenFiles().listen():
            pass
    assert hooks == [WrittenFiles.hear]


class Claims:
    """A proxy that claims to be a list."""

    @property
    def __class__(self):
        return list


class HasAll:
    """A mock: it has every attribute, and they cannot be compared."""

    def __getattr__(self, name):
        return HasAll()

    def __call__(self):
        return self


class Refuses(dict):
    def items(self):
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    "make", [Claims, HasAll, Refuses, MagicMock, lambda: torch.nn.LazyLinear(3), lambda: float("nan")]
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_odd_members_change_nothing_and_break_nothing(make):
    roots = {"dataset": {"member": make(), "others": [make()]}}
    before, after = observe.read_state(roots), observe.read_state(roots)
    assert not observe.changed_scalars(before, after)
    assert not observe.changed_contents(before, after)
    assert not observe.growing(before, after)
    assert trace(roots).num_objects  # whether it can be pickled or not
    assert list(reachable(roots.values()))
