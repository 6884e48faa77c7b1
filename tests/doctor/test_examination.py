"""The examination with its stages acted out: what is said as it goes along, and what is taken back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor import examination
from dsrface.doctor.examination.budget import Budget
from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.report import Finding
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.survey.facts import SurveyFacts
from dsrface.events import CheckDone

fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")

COST = ItemCost(1e-3, 1e-3, 0.0, 0.0, 32)
FACTS = SurveyFacts(1000, 0.1, 32, {"fork": [], "spawn": [], "forkserver": []}, [], cost=COST)
THREADS = Finding("mp.threads", "warn", "building the data set started 1 thread", data={"threads": 1})
HANDLE = Finding("ds.open_handles", "warn", "dataset.file is an open file handle")
SQLITE = Finding("ds.open_handles", "warn", "dataset.db", data={"members": [{"kind": "sqlite"}]})


def examine(stages, *, endings=(), **values):
    """Return the report and the events of an examination whose stages report given checks.

    Stages end as `endings` says, else well; the survey gives its facts when it has a proof to follow.
    """
    events = []

    def run_stage(request, limits, *, on_event):
        name = request["stage"]
        for check in stages.get(name, ()):
            on_event({"event": "check", **check.to_dict()})
            events.append(f"after {check.id}")
        reported = [{"event": "facts", **FACTS.to_dict()}] if name == "survey" and "prove" in stages else []
        ending = dict(endings).get(name, "done")
        return Outcome(reported, ending, log="ValueError: said in the log\n")

    config = DoctorConfig(dataset="x:y", **{"budget_s": 20, **values})
    report = examination.examine(config, target={"label": "x"}, emit=events.append, run_stage=run_stage)
    return report, events


def test_a_check_is_heard_of_before_its_stage_ends():
    found = Finding("ds.items", "fail", "an item raised", fix="Repair it.")
    events = examine({"survey": [found]})[1]
    heard = CheckDone("ds.items", "fail", "an item raised", fix="Repair it.")
    assert events.index(heard) < events.index("after ds.items")


def test_a_worker_that_died_is_heard_of_once_with_its_last_words():
    died = Finding("worker.spawn", "fail", "it ended", data={"explained_as": "worker-died"})
    events = examine({"survey": [died]}, start_method="spawn")[1]
    said = [event.summary for event in events if getattr(event, "id", "") == "worker.spawn"]
    assert said == ["a spawn worker cannot start: ValueError: said in the log"]


def test_checks_that_were_not_asked_for_are_not_heard_of():
    events = examine({"survey": [Finding("ds.items", "pass", "32 items loaded")]}, skip=["ds.items"])[1]
    assert "ds.items" not in {getattr(event, "id", "") for event in events}


def test_the_budget_counts_from_the_start_of_the_process():
    script = "import time; time.sleep(0.5); from dsrface.runtime import process_age as age;"
    script += "print(age.spent_s()); age.count_from_the_start(); print(age.spent_s());"
    script += "age.count_no_more(); print(age.spent_s())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    not_asked, asked, of_many = map(float, done.stdout.split())
    assert not_asked == of_many == 0
    assert 0.5 < asked < 60
    assert 12 <= Budget(20, spent_s=12).spent_s < 13


def test_no_time_for_any_look_is_said_and_is_no_fault():
    report = examine({}, endings={"survey": "no time"}, start_method="fork", budget_s=1)[0]
    assert report.counts()["error"] == report.counts()["warn"] == 0
    assert report.check("ds.unpicklable").summary == "left out: --budget 1 was spent"
    assert report.advice().endswith(": give a longer --budget")


def test_a_proof_that_was_not_asked_for_wants_no_longer_budget():
    report = examine({"survey": []}, start_method="fork", probe=False, budget_s=1)[0]
    assert report.check("worker.fork").summary == "--no-probe"
    assert not report.check("worker.fork").data


@fork_only
@pytest.mark.parametrize("suspicion", [THREADS, HANDLE])
def test_a_suspicion_that_no_worker_could_confirm_in_time_is_no_warning(suspicion):
    late = {"prove": "timeout"}
    report = examine({"survey": [suspicion], "prove": []}, endings=late, start_method="fork")[0]
    found = report.check(suspicion.id)
    assert found.status == "info"
    assert "not proved within --budget" in found.summary
    assert report.verdict == "pass"
    assert report.advice() == "clean but for worker.fork: give a longer --budget"
    assert report.recommendation["num_workers"] == 0
    assert report.recommendation["reason"].endswith("; no worker was proved")


def test_workers_that_no_proof_has_seen_are_recommended_with_low_confidence():
    report = examine({"survey": [], "prove": []}, endings={"prove": "timeout"}, start_method="fork")[0]
    assert report.recommendation["num_workers"] > 0
    assert report.recommendation["confidence"] == "low"
    assert report.recommendation["reason"].endswith("; no worker was proved")
    assert "limited by" not in report.recommendation["reason"]


def test_what_is_forbidden_by_its_makers_is_a_warning_without_a_proof():
    late = {"prove": "timeout"}
    report = examine({"survey": [SQLITE], "prove": []}, endings=late, start_method="fork")[0]
    assert report.check("ds.open_handles").status == "warn"


@fork_only
def test_a_thread_under_which_all_items_came_through_is_no_warning():
    proof = [Finding("worker.fork", "pass", "2 workers start", data={"items": 300})]
    report = examine({"survey": [THREADS], "prove": proof}, start_method="fork")[0]
    assert report.check("mp.threads").status == "info"
    assert "300 items came through" in report.check("mp.threads").summary
