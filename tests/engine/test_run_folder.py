"""Run folders: what they record, what they refuse, and how a run's end is written down."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shutil

import pytest

from dsrface.config.sources import resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.engine.run_folder import open_run
from dsrface.errors import RunError, TrainingError


def config(**flags):
    return resolve(TrainDsrConfig, flags={"data": "DATA", "vlr_size": 16} | flags).config


def record(path):
    return json.loads((path / "run.json").read_text())


def test_a_new_folder_is_named_by_time_and_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_run(config(), run=None, resume=False, seed=3, facts={"device": "cpu"}) as folder:
        assert re.fullmatch(r"runs/train-dsr/\d{8}T\d{6}Z-[0-9a-f]{6}", folder.path.as_posix())
        assert record(folder.path)["status"] == "running"
    found = record(folder.path)
    assert (found["status"], found["seed"], found["device"]) == ("done", 3, "cpu")
    assert {"argv", "versions", "started_utc", "ended_utc", "config"} <= found.keys()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (TrainingError("x", id="collapse"), "failed", "collapse"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
    ],
)
def test_the_end_is_recorded(tmp_path, error, status, reason):
    with pytest.raises(type(error)), open_run(config(), run=tmp_path / "run", resume=False, seed=0):
        raise error
    assert record(tmp_path / "run")["status"] == status
    assert record(tmp_path / "run")["error"] == reason


def test_refuses_what_is_not_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError) as caught, open_run(config(), run=tmp_path, resume=False, seed=0):
        pass
    assert caught.value.id == "run-exists"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_resume_checks_settings_command_data_and_pins(tmp_path):
    run = tmp_path / "run"
    with open_run(config(), run=run, resume=False, seed=0, facts={"data_sha256": "a"}) as folder:
        folder.pin("weights", "1234")
    same = {"run": run, "resume": True, "seed": 0}
    with open_run(
        config(workers=3, run=run, resume=True, device="cpu"), **same, facts={"data_sha256": "a"}
    ) as folder:
        assert folder.is_resumed
        folder.pin("weights", "1234")
        with pytest.raises(RunError, match="another weights"):
            folder.pin("weights", "5678")
    assert len(record(run)["attempts"]) == 2
    with pytest.raises(RunError, match=r"epochs: .* -> 61"), open_run(config(epochs=61), **same):
        pass
    other = {"data_sha256": "b"}
    with pytest.raises(RunError, match="images of the data set"), open_run(config(), **same, facts=other):
        pass
    assert record(run)["status"] == "done"  # a refused attempt leaves the record alone


def test_config_toml_repeats_the_run(tmp_path):
    wish = config(epochs=7, **{"optim.lr": 3e-4, "model.blocks": 2})
    with open_run(
        wish.model_copy(update={"run": tmp_path / "run"}), run=tmp_path / "run", resume=False, seed=0
    ):
        pass
    assert resolve(TrainDsrConfig, config_file=tmp_path / "run" / "config.toml").config == wish


def _hold(path, ready, done):
    with open_run(config(), run=path, resume=False, seed=0):
        ready.set()
        done.wait(60)


def test_a_second_process_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "run", ready, done))
    holder.start()
    try:
        assert ready.wait(240)
        second = open_run(config(), run=tmp_path / "run", resume=True, seed=0)
        with pytest.raises(RunError, match=f"pid {holder.pid}") as caught, second:
            pass
        assert caught.value.id == "locked"
    finally:
        holder.kill()
        holder.join(60)
    assert record(tmp_path / "run")["status"] == "running"
    with open_run(config(), run=tmp_path / "run", resume=True, seed=0):
        pass
    assert record(tmp_path / "run")["status"] == "done"


def test_a_run_that_failed_before_its_first_checkpoint_is_replaced(tmp_path):
    """A mistyped flag must not cost the name of the run."""
    run = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), open_run(config(), run=run, resume=False, seed=0):
        raise ZeroDivisionError
    with open_run(config(epochs=3), run=run, resume=False, seed=0) as folder:
        assert not folder.is_resumed
        assert len(folder.record["attempts"]) == 1
    assert "epochs = 3" in (run / "config.toml").read_text()
    with pytest.raises(RunError) as caught, open_run(config(), run=run, resume=False, seed=0):
        pass
    assert caught.value.id == "run-exists"  # this one has ended well
    assert "a run of " in caught.value.message
    assert "--resume" in caught.value.hint


def test_a_failed_run_with_a_checkpoint_is_kept(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), open_run(config(), run=run, resume=False, seed=0):
        raise ZeroDivisionError
    (run / "checkpoints" / "step_000004").mkdir()
    (run / "checkpoints" / "step_000004" / "checkpoint.json").write_text("{}")
    with pytest.raises(RunError) as caught, open_run(config(), run=run, resume=False, seed=0):
        pass
    assert caught.value.id == "run-exists"


def test_refuses_a_file(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError) as caught, open_run(config(), run=tmp_path / "run", resume=False, seed=0):
        pass
    assert caught.value.id == "run-exists"


def skeleton(run):
    """Make what a run that is killed before its run.json leaves behind."""
    for name in ("samples", "checkpoints"):
        (run / name).mkdir(parents=True)
    (run / ".lock").touch()
    (run / "run.json.123.tmp").write_text("{")


def test_what_a_killed_start_leaves_is_a_new_folder(tmp_path):
    skeleton(tmp_path)
    with open_run(config(), run=tmp_path, resume=False, seed=0):
        pass
    assert record(tmp_path)["status"] == "done"
    assert not (tmp_path / "run.json.123.tmp").exists()


@pytest.mark.parametrize("foreign", ["samples/mine.png", "notes.txt", "run.json.tmp", "config.toml"])
def test_a_skeleton_with_anything_of_somebody_is_not_touched(tmp_path, foreign):
    skeleton(tmp_path)
    (tmp_path / foreign).write_text("mine")
    with pytest.raises(RunError) as caught, open_run(config(), run=tmp_path, resume=False, seed=0):
        pass
    assert caught.value.id == "run-exists"
    assert (tmp_path / foreign).read_text() == "mine"


def test_a_resumed_run_gets_the_configuration_that_a_kill_cost_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_run(config(), run=tmp_path, resume=False, seed=0):
        raise KeyboardInterrupt
    whole = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").unlink()
    with open_run(config(), run=tmp_path, resume=True, seed=0):
        pass
    assert (tmp_path / "config.toml").read_text() == whole


def test_a_folder_in_use_is_called_so_whatever_else_it_is(tmp_path):
    with open_run(config(), run=tmp_path, resume=False, seed=0):
        for resume in (False, True):
            with pytest.raises(RunError) as caught, open_run(config(), run=tmp_path, resume=resume, seed=0):
                pass
            assert caught.value.id == "locked"
            assert f"pid {os.getpid()}" in caught.value.message


def test_a_damaged_record_says_what_can_still_be_used(tmp_path):
    with open_run(config(), run=tmp_path, resume=False, seed=0):
        pass
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError) as caught, open_run(config(), run=tmp_path, resume=True, seed=0):
        pass
    assert (caught.value.id, "another folder" in caught.value.hint) == ("file-damaged", True)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder with an open file in it")
def test_a_removed_folder_is_not_made_again(tmp_path):
    run = tmp_path / "run"
    with contextlib.suppress(TrainingError), open_run(config(), run=run, resume=False, seed=0) as folder:
        shutil.rmtree(run)
        assert not folder.is_there
        raise TrainingError("x")
    assert not run.exists()
