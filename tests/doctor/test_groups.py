"""The four groups of the report, and the steps of an examination with the time they should still take."""

from __future__ import annotations

import pytest

from dsrface.doctor.checks.registry import all_checks
from dsrface.doctor.examination import steps
from dsrface.doctor.examination.budget import Budget
from dsrface.doctor.report import Finding
from dsrface.doctor.report.groups import GROUPS, group_of, grouped, headline

CLEAN = [
    Finding("env.python", "info", "Python 3.11.7 on Linux x86_64"),
    Finding("env.torch", "info", "torch 2.14.1, imported in 3.1 s"),
    Finding("env.cpu", "pass", "2 cores"),
    Finding("mp.start_method", "info", "fork (default of Python 3.11): workers inherit this process"),
    Finding("ds.items", "pass", "32 items loaded"),
]


def test_every_check_has_a_group_and_every_group_a_check():
    assert {group_of(id) for id in all_checks()} == set(GROUPS)


def test_the_gravest_finding_of_a_group_comes_first():
    found = grouped([Finding("ds.items", "pass", "a"), Finding("ds.state", "fail", "b")])
    assert [check.id for check in found["items"]] == ["ds.state", "ds.items"]


def test_a_group_is_told_in_one_line():
    found = grouped(CLEAN)
    assert headline("machine", found["machine"]) == "Python 3.11.7, torch 2.14.1, 2 cores"
    assert headline("workers", found["workers"]) == "start by fork (default of Python 3.11)"
    proved = [*found["workers"], Finding("worker.fork", "pass", "2 workers deliver 64 items")]
    same = Finding("worker.consistency", "pass", "64 items equal")
    assert headline("workers", [*proved, same]).endswith("64 items, equal to those of a plain loop")
    fault = Finding("ds.open_handles", "fail", "shared")
    assert headline("workers", [*proved, same, fault]) == "2 workers deliver 64 items"


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(steps.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_time_left_is_told_once_it_is_known_and_falls(clock):
    events = []
    going = steps.Steps(events.append, Budget(60), ["prove", "sweep"])
    going.begin("survey", "look at the installation")
    going.hear({"event": "stage", "name": "import torch"})
    assert events[-1].label == "look at the installation: import torch"
    assert events[-1].left_s is None
    clock.now += 4
    going.hear({"event": "imported", "import_s": 4.0})
    going.hear({"event": "stage", "name": "load items"})
    first = events[-1].left_s
    assert 4 + 4 < first < 60
    clock.now += 1
    going.hear({"event": "silence"})
    assert events[-1].left_s == first - 1
    going.begin("sweep", "time the settings")  # nothing to prove after all
    assert events[-1].left_s < first - 9


def test_counts_of_a_step_are_handed_on_and_not_too_often(clock):
    events = []
    going = steps.Steps(events.append, Budget(60), ["prove"])
    going.begin("prove", "start workers by fork")
    going.hear({"event": "stage", "name": "read batches from fork workers"})
    for done in range(1, 51):
        clock.now += 0.1
        going.hear({"event": "progress", "done": done, "total": 50})
    counts = [event.done for event in events if event.total]
    assert 8 <= len(counts) <= 12
    assert counts[-1] >= 45
    assert events[-1].left_s is not None  # the process had torch already
