"""The examination with its stages acted out: what is said as it goes along, and what is taken back."""

from __future__ import annotations

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor import examination
from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.report import Finding
from dsrface.events import CheckDone


def examine(stages, **values):
    """Return the report and the events of an examination whose stages report given checks."""
    events = []

    def run_stage(request, *, on_event, **_):
        name = request["stage"]
        for check in stages.get(name, ()):
            on_event({"event": "check", **check.to_dict()})
            events.append(f"after {check.id}")
        return Outcome(ending="done", log="ValueError: said in the log\n")

    config = DoctorConfig(dataset="x:y", budget_s=20, **values)
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
