"""What the code of a data set says of it: set between epochs, held by its class or its module."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import sqlite3
import sys
import types
from typing import Any

import judgment
import pytest
import torch
from torch.utils.data import DataLoader

from dsrface.doctor.checks.epochs import EPOCH
from dsrface.doctor.checks.handles import HANDLES
from dsrface.doctor.checks.members import CUDA_MEMBER, UNPICKLABLE
from dsrface.doctor.checks.resources import files_check
from dsrface.doctor.checks.startup import network_in
from dsrface.doctor.examination.endings import survey_failed
from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.proof import epochs
from dsrface.doctor.proof.causes import cause_of_exception, cause_of_wrong_items
from dsrface.doctor.proof.epochs import setter
from dsrface.doctor.survey.code_facts import (
    epoch_setters,
    held_by_code,
    keyed_by_process,
    mentions_device,
    numbers_read,
)
from dsrface.doctor.survey.loops import changed_in_loops
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.members import Member, Trace
from dsrface.doctor.trace.pickling import trace

LOG = sqlite3.connect(":memory:")  # nothing that loads an item reads it
ROWS = sqlite3.connect(":memory:")


class ByClass:
    difficulty = 0
    size = 8
    rows: Any = None

    def set_difficulty(self, difficulty):
        self.difficulty = difficulty

    def __getitem__(self, index):
        return self.size, self.difficulty, self.rows.execute("select 1")


class ByModule:
    def __getitem__(self, index):
        return self.fetch(index)

    def fetch(self, index):
        return ROWS.execute("select ?", (index,)).fetchone()


def test_a_class_attribute_that_a_method_sets_is_set_between_epochs():
    assert epoch_setters({"dataset": ByClass()}) == {"dataset.difficulty": {"difficulty", "set_difficulty"}}


class Resampled:
    def __init__(self):
        self.scale, self.items, self.transform = 1.0, [1, 2], torch.nn.Identity()
        self.order, self.shared = torch.arange(2), torch.zeros(2).share_memory_()
        self.file = open(__file__, "rb")  # noqa: SIM115 - the specimen

    def resample(self):
        self.items, self.order, self.shared, self.file, self.scale = [2], None, None, None, 2.0

    def set_transform(self, transform):
        self.transform = transform

    def __getitem__(self, index):
        return self.transform(self.items[index] * self.scale), self.order, self.shared, self.file


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_a_method_replaces_stays_in_workers_unless_it_is_shared():
    found = list(epoch_setters({"dataset": Resampled()}))
    assert found[0] == "dataset.scale"  # that one can be tried
    assert set(found) == {f"dataset.{name}" for name in ("scale", "items", "transform", "order")}
    assert setter(Target(Resampled()), "dataset.transform") is None


class ChangedInPlace:
    def __init__(self):
        self.weights, self.hard, self.rows = torch.ones(4), {}, [1, 2]
        self.order, self.epoch, self.labels = [1, 0], torch.zeros(()), [3, 4]
        self.on_epoch_end()

    def update(self, index, loss):
        self.weights[index] += loss
        self.hard[index]["loss"] = loss
        self.rows.append(loss)

    def begin(self, number):
        self.epoch.fill_(number)

    def on_epoch_end(self):
        random.shuffle(self.order)

    def label_of(self, index):
        found = {}
        found[index] = self.labels[index]
        return found

    def __getitem__(self, index):
        return self.weights, self.hard, self.rows, self.order, self.epoch, self.labels


def test_what_a_method_changes_in_place_stays_in_workers():
    found = list(epoch_setters({"dataset": ChangedInPlace()}))
    assert found[0] == "dataset.epoch"
    assert set(found) == {f"dataset.{name}" for name in ("weights", "hard", "rows", "order", "epoch")}


def test_an_epoch_in_a_tensor_can_be_tried():
    dataset = ChangedInPlace()
    change = setter(Target(dataset), "dataset.epoch")
    assert change is not None
    change(1)
    assert dataset.epoch == 1


@pytest.mark.parametrize(("is_stale", "blocks"), [(None, True), (False, False), (True, True)])
def test_an_epoch_that_was_not_seen_to_arrive_forbids_workers_that_stay(is_stale, blocks):
    survey = {"epoch_setters": ["dataset.set_epoch"], "changed_in_loops": {}, "changed_per_batch": []}
    proof = types.SimpleNamespace(survey=survey, epoch_is_stale=is_stale, target=Target([]))
    assert EPOCH.runs["epochs"](None, proof).data.get("blocks_persistent", False) is blocks


@pytest.mark.parametrize(
    ("name", "keeps", "is_stale", "status"),
    [
        ("set_epoch", True, None, "warn"),
        ("set_epoch", False, None, "info"),
        ("weights", True, None, "info"),
        ("order", True, None, "warn"),
        ("order", False, None, "info"),
        ("set_epoch", True, True, "fail"),
        ("order", True, True, "fail"),
        ("weights", True, True, "warn"),
        ("weights", False, True, "info"),
    ],
)
def test_a_loader_that_keeps_workers_is_warned_of_what_changes_between_epochs(name, keeps, is_stale, status):
    loader = DataLoader([1], num_workers=1, persistent_workers=keeps)
    survey = {"epoch_setters": [f"dataset.{name}"], "changed_in_loops": {"dataset.order": "train.py:7"}}
    survey["changed_per_batch"] = []
    proof = types.SimpleNamespace(survey=survey, epoch_is_stale=is_stale, target=Target([], loader=loader))
    found = EPOCH.runs["epochs"](None, proof)
    assert found.status == status
    assert ("train.py:7" in found.where) == (name == "order")


@pytest.fixture
def train_module(tmp_path, monkeypatch):
    """Return a function that puts code into the user's module `train`, which runs nothing of it."""

    def train_module(code):
        module = types.ModuleType("train")
        (tmp_path / "train.py").write_text(code, encoding="utf-8")
        module.__file__ = str(tmp_path / "train.py")
        monkeypatch.setitem(sys.modules, "train", module)

    return train_module


SETTERS = {"dataset.weights": {"weights", "update"}, "dataset.sampler.level": {"level", "harder"}}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (
            "for epoch in range(9):\n    for batch in loader:\n        step(batch)\n    dataset.update(1)",
            "weights",
        ),
        ("for i, batch in enumerate(loader):\n    loader.dataset.update(batch)", "weights"),
        ("def on_train_epoch_end(self, trainer):\n    trainer.train_set.update(1)", "weights"),
        ("while True:\n    train_one(loader)\n    data.sampler.harder()", "sampler.level"),
        ("for epoch in range(9):\n    dataset.weights = 2\n    fit(loader)", "weights"),
        ("dataset.update(1)\nfor batch in loader:\n    step(batch)", None),  # once, before
        ("for row in range(9):\n    dataset.update(row)", None),  # it is filled
        ("for epoch in range(9):\n    train(loader)\n    metric.update(1)", None),
        ("for split in splits:\n    dataset.update(split)\n    train(loader)", None),
        ("for epoch in (", None),
    ],
)
def test_code_that_changes_a_member_in_a_loop_of_training_is_found(code, found, train_module):
    train_module(code)
    places = changed_in_loops(SETTERS)
    assert {path for path, change in places.items() if "train.py" in change.where} == (
        {f"dataset.{found}"} if found else set()
    )


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("for batch in loader:\n    STEP += 1", ("train.STEP", True)),
        ("def go():\n    global STEP\n    for batch in loader:\n        STEP = 1", ("train.STEP", True)),
        ("for epoch in range(9):\n    STEP = epoch\n    fit(loader)", ("train.STEP", False)),
        ("for i, batch in enumerate(loader):\n    dataset.scale = i", ("dataset.scale", True)),
        ("for STEP, batch in enumerate(loader):\n    step(batch)", ("train.STEP", True)),
        ("for batch in loader:\n    loss, STEP = step(batch)", ("train.STEP", True)),
        ("def go():\n    for batch in loader:\n        STEP = 1", None),  # a variable of its own
        ("STEP = 1\nfor batch in loader:\n    print(STEP)", None),
    ],
)
def test_a_variable_that_changes_from_batch_to_batch_is_found(code, found, train_module):
    train_module(code)
    changes = changed_in_loops({"train.STEP": {"STEP"}, "dataset.scale": {"scale"}})
    assert [(path, change.is_per_batch) for path, change in changes.items()] == ([found] if found else [])


LEVEL = 3


class Levelled:
    def __init__(self):
        self.scale, self.name, self.unused = 2.0, "", 7

    def __getitem__(self, index):
        return index * self.scale * LEVEL, self.name


def test_numbers_that_items_read_are_found_in_members_and_modules():
    expected = {"dataset.scale": {"scale"}, f"{__name__}.LEVEL": {"LEVEL"}}
    assert numbers_read({"dataset": Levelled()}) == expected
    change = setter(Target(Levelled()), f"{__name__}.LEVEL")
    change(1)
    assert sys.modules[__name__].LEVEL == 6
    change(0)


@pytest.mark.parametrize(("name", "status"), [("train.STEP", "fail"), ("dataset.scale", "warn")])
def test_what_changes_from_batch_to_batch_speaks_against_workers_of_any_kind(name, status):
    survey = {"epoch_setters": [name], "changed_in_loops": {name: "train.py:7"}, "changed_per_batch": [name]}
    proof = types.SimpleNamespace(survey=survey, epoch_is_stale=True, target=Target([]))
    found = EPOCH.runs["epochs"](None, proof)
    assert (found.status, set(found.data["blocks"])) == (status, {"fork", "spawn", "forkserver"})


class Counted:
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(("name", "is_stale"), [("set_epoch", False), ("epoch", False), ("size", None)])
def test_an_epoch_that_changes_no_item_is_not_stale(name, is_stale, monkeypatch, tmp_path):
    monkeypatch.setattr(epochs, "make_loader", lambda *_, **__: [])
    monkeypatch.setattr(epochs, "_items_since", lambda *_, **__: ["as ever"])
    monkeypatch.setattr(Counted, "size", 1, raising=False)
    request = {"num_workers": 1, "method": "fork", "item_s": 0.01, "load_s": 0.1, "folder": str(tmp_path)}
    request["survey"] = {"epoch_setters": [f"dataset.{name}"]}
    assert epochs.epoch_is_stale(Target(Counted()), request) is is_stale


def test_connections_of_a_class_and_of_a_module_are_found_where_items_use_them(monkeypatch):
    with contextlib.closing(sqlite3.connect(":memory:")) as rows:
        monkeypatch.setattr(ByClass, "rows", rows)
        found = held_by_code({"dataset": ByClass(), "collate_fn": ByModule()})
    assert [(member.path, member.kind, member.is_hidden) for member in found] == [
        ("dataset.rows", "sqlite", True),
        (f"{__name__}.ROWS", "sqlite", True),
    ]
    assert all("test_code_facts.py:" in member.source for member in found)


def rows():
    return ROWS


@functools.lru_cache(maxsize=4)
def opened(name):
    return sqlite3.connect(name)


class Store:
    def __init__(self):
        self.parts = {"rows": ROWS}

    def fetch(self):
        return self.parts


STORE = Store()


class ByFunction:
    def __getitem__(self, index):
        return rows()


class ByCache:
    def __getitem__(self, index):
        return opened(":memory:")


class ByObject:
    def __getitem__(self, index):
        return STORE.fetch()


class ByOtherModule:
    def __getitem__(self, index):
        return judgment.ROWS


def collate_by_function(items):
    return rows()


@pytest.mark.parametrize(
    ("roots", "path"),
    [
        ({"dataset": ByFunction()}, f"{__name__}.ROWS"),
        ({"dataset": ByCache()}, f"{__name__}.opened (its cache)"),
        ({"dataset": ByObject()}, f"{__name__}.STORE.parts['rows']"),
        ({"dataset": ByOtherModule()}, "judgment.ROWS"),
        ({"dataset": [], "collate_fn": collate_by_function}, f"{__name__}.ROWS"),
    ],
)
def test_a_connection_is_found_through_functions_objects_and_other_modules(roots, path, monkeypatch):
    monkeypatch.setattr(judgment, "ROWS", ROWS, raising=False)
    opened(":memory:")
    [member] = held_by_code(roots)
    assert member.path.startswith(path)
    assert (member.kind, member.is_hidden) == ("sqlite", True)
    assert "test_code_facts.py:" in member.source


class ByProcess:
    rows, process = None, 0

    def __getitem__(self, index):
        if self.process != os.getpid():
            self.rows, self.process = sqlite3.connect(":memory:"), os.getpid()
        return self.rows.execute("select ?", (index,)).fetchone()


def test_a_connection_that_each_process_makes_for_itself_is_no_finding():
    handles = [Member("dataset.rows", "Connection", kind="sqlite"), Member("dataset.f", "File", kind="file")]
    assert keyed_by_process(handles, {"dataset": ByProcess()}) == handles[:1]
    assert keyed_by_process(handles, {"dataset": ByModule()}) == []
    found = Trace(unpicklable=handles[:1], keyed=handles[:1])
    for pickles, status in (([], "pass"), (["spawn"], "fail")):
        subject = types.SimpleNamespace(trace=found, pickles=pickles)
        assert UNPICKLABLE.runs["members"](UNPICKLABLE, subject).status == status


@pytest.mark.parametrize("kind", ["process", "socket"])
def test_wrong_items_next_to_an_inherited_connection_are_laid_to_it(kind):
    handles = [{"path": "dataset.proc", "kind": kind, "source": ""}]
    found = types.SimpleNamespace(agree=False)
    cause = cause_of_wrong_items(found, [], "fork", moved=False, handles=handles)
    assert "dataset.proc" in cause.summary
    assert HANDLES.id in cause.fix
    other = cause_of_wrong_items(found, [], "fork", moved=False, handles=[{**handles[0], "kind": "h5py"}])
    assert other.name == "process"


@pytest.mark.parametrize(("kind", "said"), [("file", "file position"), ("socket", "on one connection")])
def test_what_an_open_handle_does_depends_on_its_kind(kind, said):
    subject = types.SimpleNamespace(
        trace=Trace(handles=[Member("dataset.c", "T", kind=kind)]), methods=["fork"]
    )
    finding = HANDLES.runs["members"](None, subject)
    assert said in finding.matters


@pytest.mark.parametrize(("tensors", "said"), [(100, "ulimit -n 65535 in"), (12800, "torch.stack")])
def test_no_limit_is_advised_that_would_not_do(tensors, said):
    facts = types.SimpleNamespace(tensors_per_batch=tensors)
    assert said in files_check(1024, facts, num_workers=8).fix


@pytest.mark.parametrize(("is_silent", "status"), [(False, "skip"), (True, "fail")])
def test_items_that_are_slow_to_load_again_are_no_failure(is_silent, status):
    outcome = Outcome(ending="timeout", stage="load items again", is_silent=is_silent)
    [finding] = survey_failed(outcome)
    assert (finding.id, finding.status) == ("ds.items", status)


def test_an_interrupt_that_an_item_raises_is_said_with_its_line():
    outcome = Outcome(ending="died", code=9, stage="load items")
    outcome.events += [
        {"event": "item", "index": "3"},
        {"event": "crash", "error": "KeyboardInterrupt: ", "ours": False, "where": "data.py:7 in load"},
    ]
    [finding] = survey_failed(outcome)
    assert finding.summary == "loading item 3: the process was ended by KeyboardInterrupt"
    assert finding.where == "data.py:7 in load"


def test_an_error_next_to_a_file_that_an_item_makes_is_laid_to_it():
    error = {"type": "EOFError", "text": "", "traceback": ""}
    cause = cause_of_exception(error, "fork", num_moved=0, made=["/data/mean.npy"])
    assert "mean.npy" in cause.matters
    assert "os.replace()" in cause.fix


class OnDevice:
    def __init__(self, device):
        self.net = torch.nn.Linear(1, 1).to(device)

    def __getitem__(self, index):
        return index


class Transformed(ByModule):
    def __init__(self, transform):
        self.transform = transform


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (OnDevice("cpu"), "warn"),
        (Transformed(torch.nn.Linear(1, 1)), "info"),
        (Transformed(torch.nn.BatchNorm1d(4, affine=False)), "pass"),  # constants only, as a spectrogram has
    ],
)
def test_a_network_on_the_cpu_is_a_warning_only_where_the_code_names_a_device(data, status):
    found = trace({"dataset": data})
    found.mentions_device = mentions_device({"dataset": data})
    subject = types.SimpleNamespace(trace=found, methods=["fork"])
    assert CUDA_MEMBER.runs["members"](CUDA_MEMBER, subject).status == status
    assert (network_in(found) is not None) == (status == "warn")


@pytest.mark.parametrize(
    ("stage", "is_silent", "status"),
    [
        ("import torch", False, "warn"),
        ("import torch", True, "warn"),
        ("build the data set", False, "warn"),
        ("build the data set", True, "fail"),
    ],
)
def test_what_is_slow_to_begin_is_no_failure(stage, is_silent, status):
    [finding] = survey_failed(Outcome(ending="timeout", stage=stage, is_silent=is_silent))
    assert finding.status == status
    assert ("still being" in finding.summary) == (status == "warn")
