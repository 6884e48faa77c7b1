"""Every sink takes every event; metrics.jsonl stays readable whatever happened to its writer."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from dsrface.engine.sinks import (
    JsonlSink,
    LogSink,
    Sink,
    TensorBoardSink,
    as_json,
    as_text,
    run_sinks,
)
from dsrface.events import (
    CheckpointSaved,
    EvalDone,
    Note,
    Progress,
    RunFinished,
    RunStarted,
    StepDone,
)

EVENTS = [
    RunStarted(Path("runs/x"), "train-dsr", "cpu", 10, 3),
    StepDone(4, 0, {"loss/total": 0.5, "lr": 1e-3}, 120.0, 0.25),
    EvalDone(4, {"psnr_db": 25.0, "nan": math.nan}, is_best=True),
    CheckpointSaved(4, Path("runs/x/checkpoints/step_000004")),
    Note("something [/odd] ü", is_warning=True),
    Progress("read", 1, 2),
    RunFinished("done", {"step": 4.0, "why": "end"}),
]


@pytest.mark.parametrize(
    "make", [lambda p: JsonlSink(p / "m.jsonl"), lambda p: LogSink(p / "log.txt"), TensorBoardSink]
)
def test_every_sink_takes_every_event(tmp_path, make):
    if make is TensorBoardSink:
        pytest.importorskip("tensorboard")
    sink = make(tmp_path)
    assert isinstance(sink, Sink)
    for event in EVENTS:
        sink.emit(event)
        assert as_text(event)
        json.dumps(as_json(event), allow_nan=False)
    sink.close()


def test_jsonl_is_flushed_line_by_line_and_survives_a_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    for number, event in enumerate(EVENTS[:3]):
        sink.emit(event)
        assert len(path.read_text().splitlines()) == number + 1  # before close
    sink.close()
    path.write_text(path.read_text() + '{"event": "st')  # SIGKILL in the middle of a line
    sink = JsonlSink(path)
    sink.emit(EVENTS[6])
    sink.close()
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert json.loads(lines[1])["loss/total"] == 0.5
    assert json.loads(lines[2])["nan"] is None
    assert json.loads(lines[-1])["event"] == "run_finished"


def test_log_has_levels_and_our_own_logger(tmp_path):
    import logging

    sink = LogSink(tmp_path / "log.txt")
    sink.emit(EVENTS[4])
    logging.getLogger("dsrface.data").warning("from the data room")
    sink.close()
    logging.getLogger("dsrface.data").warning("too late")
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "WARNING something [/odd] ü" in text
    assert "from the data room" in text
    assert "too late" not in text


def test_run_sinks(tmp_path):
    sinks = run_sinks(tmp_path, use_tensorboard=False)
    for sink in sinks:
        for event in EVENTS:
            sink.emit(event)
        sink.close()
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "log.txt"}


def test_a_broken_tensorboard_ends_no_run(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it fails
    sinks = run_sinks(tmp_path)
    for event in EVENTS:
        for sink in sinks:
            sink.emit(event)
    for sink in sinks:
        sink.close()
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").count("TensorBoard takes no more curves") == 1
