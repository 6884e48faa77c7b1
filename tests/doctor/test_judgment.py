"""What the doctor says of data sets that people have: no false alarm, and the right cause with its path."""

from __future__ import annotations

import sys

import pytest
from test_faults import POSIX, Found, prove

from dsrface.doctor.survey import survey

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="positions are watched through /proc")


def examine(name, method="fork"):
    """Return the findings of the survey and of real workers by id; the proof has the last word."""
    found = Found()
    request = {
        "target": {"spec": f"judgment:{name}", "args": None},
        "methods": [method],
        "num_workers": 2,
        "memory_bytes": 8 << 30,
        "batch_size": None,
        "allow_cuda": False,
        "load_s": 1.0,
        "measure_s": 0.02,
    }
    survey.survey(request, found)
    checks = dict(found.checks)
    checks.update(prove(name, method, module="judgment", facts=found.facts))
    return checks


def objections(checks):
    return {id: check.summary for id, check in checks.items() if check.status in ("warn", "fail", "error")}


HEALTHY = [
    "Flip",
    "PythonFlip",
    "Pread",
    "PerProcess",
    "seeded",
    "SharedEpoch",
    "FloatSum",
    "Stream",
    "subset_sampler",
    "batches_of_pairs",
    "whole_batches",
]


@POSIX
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_data_sets_get_no_warning(name):
    checks = examine(name)
    assert objections(checks) == {}
    assert checks["worker.fork"].status == "pass"
    assert checks["worker.consistency"].status == "pass"


@LINUX
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("MemberHandle", "dataset.handle"),
        ("ClassHandle", "ClassHandle.handle"),
        ("GlobalHandle", "judgment.HANDLE"),
        ("CachedHandle", "judgment.opened (its cache)"),
        ("Descriptor", "dataset.descriptor"),
    ],
)
def test_a_shared_position_is_a_failure_wherever_it_is_held(name, path):
    check = examine(name)["ds.open_handles"]
    assert check.status == "fail"
    assert path in check.summary
    assert check.data["blocks"] == ["fork"]
    assert "judgment.py:" in check.where or name == "CachedHandle"


FAULTS = [
    ("constant_seed", "fork", "ds.rng", "fail", "worker_init_fn same_seed", "torch.initial_seed()"),
    ("OwnGenerator", "fork", "ds.rng", "fail", "dataset.state", "torch.initial_seed()"),
    ("Clock", "fork", "ds.rng", "warn", "clock", "generator"),
    ("Counter", "fork", "ds.state", "fail", "dataset.count", "index"),
    ("Epoch", "fork", "ds.epoch", "warn", "dataset.set_epoch", "share_memory_"),
    ("EpochStream", "fork", "ds.epoch", "warn", "dataset.set_epoch", "share_memory_"),
    ("OneBuffer", "fork", "ds.output", "fail", "items share memory", "copy"),
    ("LeavesFiles", "fork", "env.fds", "warn", "every item leaves 1 open file", "Close"),
    ("loses_attribute", "fork", "worker.consistency", "fail", ".spacing", "entry of its own"),
    ("StopsEarly", "fork", "ds.items", "fail", "StopIteration", "IndexError"),
    ("Exits", "fork", "ds.items", "fail", "item 150: SystemExit: sample is broken", "ValueError"),
    ("LateVariable", "spawn", "worker.consistency", "fail", "judgment.SCALE", "worker_init_fn"),
]


@POSIX
@pytest.mark.parametrize(("name", "method", "id", "status", "said", "advice"), FAULTS)
def test_faults_are_named_with_their_cause(name, method, id, status, said, advice):
    check = examine(name, method)[id]
    assert check.status == status
    assert said in check.summary + check.where
    assert advice in check.fix


@POSIX
def test_shards_bound_the_number_of_workers():
    found = Found()
    request = {
        "target": {"spec": "judgment:TwoShards", "args": None},
        "methods": ["fork"],
        "num_workers": 2,
        "memory_bytes": 8 << 30,
        "batch_size": None,
        "allow_cuda": False,
        "load_s": 0.3,
        "measure_s": 0.05,
    }
    survey.survey(request, found)
    assert found.facts.shards == 2
