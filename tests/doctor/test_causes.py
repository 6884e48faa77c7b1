"""Why items repeat or vary: a generator, code that seeds, a clock, what was loaded before."""

from __future__ import annotations

import collections
import functools
import os
import re
import sys
import types

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from dsrface.doctor.checks.installation import worker_threads_check
from dsrface.doctor.checks.items import ITEMS
from dsrface.doctor.checks.randomness import _hidden_generator, _repeats, _seeding_code
from dsrface.doctor.checks.shards import SHARDS
from dsrface.doctor.proof import compare
from dsrface.doctor.proof.causes import cause_of_exception
from dsrface.doctor.proof.compare import Comparison
from dsrface.doctor.proof.draws import Draws
from dsrface.doctor.proof.owners import owner_of_descriptor
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.survey.files import ItemFiles
from dsrface.doctor.survey.loading import Loading
from dsrface.doctor.targets import Target, from_object
from dsrface.doctor.trace.kinds import ADVICE, CONTRACTS, handle_kind, held_kind

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


def seed_by_id(worker_id, seed):
    torch.manual_seed(seed + worker_id)


@pytest.mark.parametrize(("is_kept", "status"), [(True, "info"), (False, "warn")])
def test_an_init_fn_that_repeats_each_epoch_does_no_harm_where_workers_are_kept(is_kept, status):
    init = functools.partial(seed_by_id, seed=1)
    loader = DataLoader([1], num_workers=1, persistent_workers=is_kept)
    target = Target(Seeding(), worker_init_fn=init, loader=loader)
    found = _repeats(Draws(equal_starts=True, fixed_seeds=["torch"]), target, {}, {})
    assert found.status == status
    assert re.search(r"worker_init_fn seed_by_id \(.*test_causes\.py:\d+\)", found.where)


@pytest.mark.parametrize(
    ("type_", "text", "says_id"),
    [
        ("KeyError", "140517013996800", True),
        ("KeyError", "(4378129600, 'a')", True),
        ("KeyError", "'cat'", False),
        ("KeyError", "7", False),
        ("OSError", "140517013996800", False),
    ],
)
def test_a_large_number_as_key_that_is_missing_in_a_fresh_worker_is_an_id(type_, text, says_id):
    error = {"type": type_, "text": text}
    assert ("id()" in cause_of_exception(error, "spawn", num_moved=0).fix) is says_id


@pytest.mark.parametrize(("timeout", "status"), [(0, "pass"), (1, "fail"), (60, "pass")])
def test_a_loader_that_gives_up_before_its_batch_is_loaded_fails(timeout, status):
    target = Target([1, 2, 3, 4], loader=DataLoader([1], num_workers=1, timeout=timeout))
    seen = Loading(target, 1, 0, batch_size=16, loaded=4, duration_s=0.6)
    found = ITEMS.runs["items"](ITEMS, seen)
    assert found.status == status
    assert ("timeout" in found.summary) is (status == "fail")


@pytest.mark.parametrize(
    ("num_alone", "is_unique", "status"), [(400, True, "fail"), (400, False, "pass"), (0, True, "info")]
)
def test_a_fifth_of_the_items_from_two_workers_is_no_chance_where_all_differ(num_alone, is_unique, status):
    start = types.SimpleNamespace(evidence=types.SimpleNamespace(num_items=150, notes=[{}, {}]))
    found = Comparison(repeated=0.2, num_alone=num_alone, is_unique=is_unique)
    proof = types.SimpleNamespace(comparison=found, starts=[start], target=Target(Packing()))
    assert SHARDS.runs["compared"](SHARDS, proof).status == status


class Prefetching:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


def test_a_loader_in_a_wrapper_is_examined_itself():
    loader = DataLoader([1, 2])
    target = from_object(Prefetching(loader))
    assert target.loader is loader
    assert target.note == "the loader of a Prefetching"


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


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("_duckdb", "DuckDBPyConnection", "duckdb"),
        ("av.container.input", "InputContainer", "video"),
        ("decord.video_reader", "VideoReader", "video"),
    ],
)
def test_what_no_fork_may_carry_is_known_by_its_type(module, name, kind):
    held = type(name, (), {"__module__": module})()
    assert handle_kind(held) == kind
    assert {kind} <= CONTRACTS.keys() & ADVICE.keys()


class Reader:
    """A library's reader in C: no Python object in it has the descriptor."""

    def __init__(self, file):
        self.name = file


@pytest.mark.skipif(sys.platform != "linux", reason="seen through /proc")
def test_a_descriptor_of_a_c_library_is_named_by_the_object_that_reads_its_file(tmp_path):
    file = tmp_path / "a.tif"
    file.write_bytes(b"1")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        owner = owner_of_descriptor(descriptor, {"dataset": types.SimpleNamespace(image=Reader(str(file)))})
    finally:
        os.close(descriptor)
    assert (owner.path, owner.kind) == ("dataset.image", "file")


class Packing(IterableDataset):
    """Packs texts into blocks; what is left of one waits for the next epoch."""

    def __init__(self):
        self.rest = []

    def __iter__(self):
        for number in range(10):
            self.rest += [number] * 3
            if len(self.rest) >= 4:
                yield torch.tensor(self.rest[:4])
                self.rest = self.rest[4:]


def test_a_simulated_worker_has_nothing_left_of_what_was_read_here():
    reference = Reference(Target(Packing()))
    reference.remember()
    whole = reference.stream(100)
    assert reference.stream(100) != whole
    assert reference.stream(100, worker=0) == reference.stream(100, worker=0) == whole


def test_a_file_that_is_appended_to_is_neither_overwritten_nor_read(tmp_path):
    files = ItemFiles()
    for files.item in range(2):
        with files.listen(), open(tmp_path / "log", "a") as log:
            log.write("1")
    assert not files.counts
    assert not files.made_for_all()


def test_a_file_that_items_write_under_a_lock_is_no_finding(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    files = ItemFiles()
    with files.listen(), open(tmp_path / "log", "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
    assert files.is_locked
