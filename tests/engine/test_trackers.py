"""Weights & Biases and MLflow: asked for only, resumed, and never the end of a training."""

from __future__ import annotations

import logging
import sys
import types
from pathlib import Path

import pytest

from dsrface.engine.sinks import Spared
from dsrface.engine.trackers import MlflowSink, WandbSink, open_trackers
from dsrface.errors import MachineError
from dsrface.events import EvalDone, Note, RunFinished, StepDone

EVENTS = [
    StepDone(4, 0, {"loss/total": 0.5}, 120.0, 0.25),
    Note("nothing to draw"),
    EvalDone(4, {"psnr_db": 25.0}, is_best=True),
]
SETTINGS = {"optim.lr": 1e-3, "data": "faces"}
CURVES = [
    (4, {"train/loss/total": 0.5, "images_per_s": 120.0, "data_wait_fraction": 0.25}),
    (4, {"val/psnr_db": 25.0}),
]


class Recorder(types.ModuleType):
    """A module and a run that write down what is asked of them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = types.SimpleNamespace(name=name)
        self.calls: list[tuple] = []
        self.curves: list[tuple] = []
        self.info = types.SimpleNamespace(run_id="run-7")

    def init(self, **options):
        self.calls.append(("init", options))
        return self

    def start_run(self, **options):
        self.calls.append(("start", options))
        return self

    def log_params(self, values):
        self.calls.append(("params", values))

    def log(self, values, step):
        self.curves.append((step, values))

    log_metrics = log

    def finish(self, exit_code):
        self.calls.append(("end", exit_code))

    def end_run(self, status):
        self.calls.append(("end", status))


@pytest.fixture
def recorder(monkeypatch):
    def make(name):
        module = Recorder(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


def play(sink, status="done"):
    for event in [*EVENTS, *([RunFinished(status)] if status else [])]:
        sink.emit(event)
    sink.close()


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("interrupted", 0), ("failed", 1), ("", 1)])
def test_wandb_gets_settings_curves_and_the_end(recorder, tmp_path, status, code):
    wandb = recorder("wandb")
    play(WandbSink(tmp_path / "2026-11-28T02:10:00Z-ab12", SETTINGS), status)
    options = wandb.calls[0][1]
    assert options["id"] == options["name"] == "2026-11-28T02_10_00Z-ab12"  # wandb takes no colon in an id
    assert (options["config"], options["resume"]) == (SETTINGS, "allow")
    assert wandb.curves == CURVES
    assert wandb.calls[-1] == ("end", code)


@pytest.mark.parametrize(
    ("status", "end"), [("done", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED"), ("", "FAILED")]
)
def test_mlflow_goes_on_in_the_run_that_the_folder_remembers(recorder, tmp_path, status, end):
    mlflow = recorder("mlflow")
    play(MlflowSink(tmp_path, SETTINGS), status)
    assert mlflow.curves == CURVES
    assert mlflow.calls == [
        ("start", {"run_name": tmp_path.name}),
        ("params", {"optim.lr": "0.001", "data": "faces"}),
        ("end", end),
    ]
    mlflow.calls.clear()
    play(MlflowSink(tmp_path, SETTINGS))
    assert mlflow.calls == [("start", {"run_id": "run-7"}), ("end", "FINISHED")]


def test_nothing_is_opened_unasked_and_what_is_missing_is_named(tmp_path, monkeypatch):
    assert open_trackers(tmp_path, SETTINGS, wandb=False, mlflow=False) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        open_trackers(tmp_path, SETTINGS, wandb=True, mlflow=False)
    assert caught.value.id == "missing-extra"
    assert "[wandb]" in caught.value.hint


def test_a_tracker_that_fails_is_logged_once_and_ends_no_training(caplog):
    class Broken:
        def emit(self, event):
            raise ConnectionError("no route to the server")

        def close(self):
            raise AssertionError("was left out")

    with caplog.at_level(logging.WARNING, logger="dsrface"):
        play(Spared(Broken(), "MLflow"))
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert said == ["MLflow takes no more curves"]


def test_curves_arrive_in_a_real_store_of_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    run_dir = Path(tmp_path / "run")
    run_dir.mkdir()
    play(MlflowSink(run_dir, SETTINGS))
    run = mlflow.get_run((run_dir / "mlflow_run.txt").read_text().strip())
    assert run.data.metrics["val/psnr_db"] == 25.0
    assert run.data.params == {"optim.lr": "0.001", "data": "faces"}
    assert run.info.status == "FINISHED"
