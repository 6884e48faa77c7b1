"""What is read of a data set before and after its items, and what is put back."""

from __future__ import annotations

import functools
import os
import queue
import sys
import threading
import time
import types
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from dsrface.doctor.proof.seeding import reachable
from dsrface.doctor.survey import files as survey_files
from dsrface.doctor.survey import observe
from dsrface.doctor.survey.files import ItemFiles
from dsrface.doctor.survey.observe import changed_contents, changed_scalars, read_state
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


class Slotted:
    __slots__ = ("count", "unset")

    def __init__(self):
        self.count = 0


def test_attributes_in_slots_are_read():
    data = Slotted()
    before = read_state({"dataset": data})
    data.count += 1
    assert changed_scalars(before, read_state({"dataset": data})) == ["dataset.count"]


def test_only_files_written_while_it_listens_are_counted(tmp_path):
    files, other = ItemFiles(), ItemFiles()
    with files.listen(), other.listen():
        (tmp_path / "a").write_text("a")
        (tmp_path / "a").read_text()
    (tmp_path / "b").write_text("b")
    assert files.counts == other.counts == {str(tmp_path / "a"): 1}


def write_in_place(path):
    path.write_bytes(b"1")


def write_by_library(path):
    torch.save(torch.ones(1), path)


def write_and_rename(path):
    path.with_suffix(".part").write_bytes(b"1")
    path.with_suffix(".part").replace(path)


def write_locked(path):
    fcntl = pytest.importorskip("fcntl")
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.write_bytes(b"1")


@pytest.mark.parametrize(
    ("write", "is_found"),
    [(write_in_place, True), (write_by_library, True), (write_and_rename, False), (write_locked, False)],
)
def test_a_file_that_one_item_makes_for_others_is_found_unless_made_safely(tmp_path, write, is_found):
    (tmp_path / "before").write_bytes(b"1")
    os.utime(tmp_path / "before", (1, 1))
    files, cache = ItemFiles(), tmp_path / "cache"
    time.sleep(0.02)  # a file's time is some milliseconds late
    with files.listen():
        for files.item in range(3):
            if not cache.exists():
                write(cache)
            (tmp_path / "before").read_bytes()
            cache.read_bytes()
            (tmp_path / str(files.item)).write_bytes(b"1")
            (tmp_path / str(files.item)).read_bytes()
    found = files.made_for_all()
    assert list(found) == ([str(cache)] if is_found else [])
    assert all("test_observe.py:" in line for line in found.values())


def test_one_audit_hook_serves_all_examinations_of_a_process(monkeypatch):
    hooks = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(
        survey_files, "_install_hook", functools.cache(survey_files._install_hook.__wrapped__)
    )
    for _ in range(3):
        with ItemFiles().listen():
            pass
    assert hooks == [ItemFiles.hear]


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
