"""A data set that items have been loaded from in this process is put back to what it was, for new workers."""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections import OrderedDict

import pytest
from torch.utils.data import Dataset

from dsrface.doctor.trace.snapshot import Snapshot, unchanged

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the files are left to the collector

THREADS = threading.local()
MODULE_FILE = None


@functools.cache
def opened(path):
    return open(path, "rb")


def reader_of(path):
    file = None

    def read():
        nonlocal file
        file = file or open(path, "rb")  # noqa: SIM115
        return file

    return read


class Records(Dataset):
    """Opens one file in every way at first use."""

    of_class = None
    __slots__ = ("slot",)

    def __init__(self, path):
        self.path = path
        self.member = None
        self.by_name = {}
        self.recent = OrderedDict()
        self.shards = [None] * 4
        self.read = reader_of(path)
        self.generator = random.Random(0)
        self.count = 0

    @functools.cached_property
    def cached(self):
        return open(self.path, "rb")

    def __len__(self):
        return 4

    def __getitem__(self, index):
        global MODULE_FILE  # noqa: PLW0603
        file = open(self.path, "rb")  # noqa: SIM115
        for owner, name in ((self, "member"), (self, "new"), (self, "slot"), (Records, "of_class")):
            if getattr(owner, name, None) is None:
                setattr(owner, name, file)
        MODULE_FILE = MODULE_FILE or file
        THREADS.file = getattr(THREADS, "file", file)
        self.by_name.setdefault(self.path, file)
        self.recent[index] = file
        self.shards[index] = self.shards[index] or file
        self.count += 1
        return self.read(), self.cached, opened(self.path), self.generator.random()


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr("dsrface.doctor.proof.seeding.is_users_module", lambda module: module is here())
    monkeypatch.setattr("dsrface.doctor.trace.places.is_users_module", lambda module: module is here())
    for module in ("places", "snapshot"):
        monkeypatch.setattr(
            f"dsrface.doctor.trace.{module}.is_users_definition",
            lambda value: value.__module__ == __name__,
        )
    monkeypatch.setattr(here(), "MODULE_FILE", None)
    monkeypatch.setattr(Records, "of_class", None)
    vars(THREADS).clear()
    opened.cache_clear()
    (tmp_path / "records.bin").write_bytes(b"0123")
    return Records(tmp_path / "records.bin")


def here():
    return sys.modules[__name__]


def held(records):
    """Return where a file is open."""
    places = {
        "member": records.member,
        "new": vars(records).get("new"),
        "slot": getattr(records, "slot", None),
        "class": Records.of_class,
        "module": MODULE_FILE,
        "threads": getattr(THREADS, "file", None),
        "by_name": records.by_name or None,
        "recent": records.recent or None,
        "shards": next(filter(None, records.shards), None),
        "closure": records.read.__closure__[0].cell_contents,
        "cached": vars(records).get("cached"),
        "lru_cache": opened.cache_info().currsize or None,
    }
    return [name for name, value in places.items() if value is not None]


def test_all_that_items_open_is_put_back(records):
    state = records.generator.getstate()
    with unchanged({"dataset": records}):
        for index in range(4):
            records[index]
        assert len(held(records)) == 12
    assert held(records) == []
    assert records.count == 0
    assert records.generator.getstate() == state


def test_what_the_training_goes_on_with_is_there_again(records):
    before = Snapshot({"dataset": records})
    records[0]
    member, recent, drawn = records.member, dict(records.recent), records.generator.getstate()
    with before.in_force():
        assert held(records) == []
        records[1]
    assert records.member is member
    assert not member.closed
    assert records.recent == recent
    assert records.generator.getstate() == drawn
    assert records.count == 1


def test_what_was_open_before_stays_open(records):
    records.member = open(records.path, "rb")  # noqa: SIM115
    with unchanged({"dataset": records}):
        records[0]
    assert held(records) == ["member"]
    assert not records.member.closed


def test_a_member_that_refuses_stays(tmp_path):
    class Frozen(Dataset):
        __slots__ = ("count",)
        count: int

        def __init__(self):
            object.__setattr__(self, "count", 0)

        def __setattr__(self, name, value):
            raise AttributeError(name)

    dataset = Frozen()
    with unchanged({"dataset": dataset}):
        object.__setattr__(dataset, "count", 1)
    assert dataset.count in (0, 1)
