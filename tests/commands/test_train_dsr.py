"""train-dsr on real files: what a run leaves behind, resuming after SIGKILL, two ranks, flat folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dsrface.commands import train_dsr
from dsrface.config.sources import resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.datasets import ManySizesDataset
from dsrface.data.layout import open_data
from dsrface.errors import DataError, RunError, WeightsError
from dsrface.events import EvalDone, Note, StepDone
from dsrface.models.weights import load_dsr

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "vlr_size": 16,
    "device": "cpu",
    "workers": 0,
    "batch_size": 8,
    "epochs": 3,
    "model.channels": 8,
    "model.blocks": 1,
    "engine.log_every_steps": 1,
    "engine.eval_every_epochs": 1,
    "engine.checkpoint_every_steps": 1,
    "engine.tensorboard": False,
    "augment.rotate_deg": 10.0,
}


def config(data, run, **flags):
    return resolve(TrainDsrConfig, flags={"data": data, "run": run} | TINY | flags).config


def spawn(command, flags, *, torchrun=0, wait=True):
    settings = [
        f"{key}={json.dumps(value) if not isinstance(value, Path) else value}" for key, value in flags.items()
    ]
    start = [sys.executable]
    if torchrun:
        start += [
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={torchrun}",
            "--master-port=0",
            "--rdzv-backend=c10d",
        ]
        start += ["--rdzv-endpoint=localhost:0"]
    call = [*start, "-m", "tests.commands.runner", command, *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if not wait:
        return subprocess.Popen(
            call, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    return subprocess.run(
        call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def last_weights(run):
    pointer = json.loads((run / "last.json").read_text())
    return load_file(run / pointer["checkpoint"] / "model.safetensors")


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """A run that nothing has interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train_dsr.run(config(tiny_data, run), emit=lambda event: None)
    return run


def test_leaves_exactly_these_files(tiny_data, tmp_path):
    run = tmp_path / "run"
    result = train_dsr.run(
        config(tiny_data, run, **{"engine.checkpoint_every_steps": 0}), emit=lambda event: None
    )
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    steps = (
        ["step_000000", "step_000004", "step_000006"]
        if result.outcome.best_step == 0
        else ["step_000004", "step_000006"]
    )
    per_checkpoint = ["model.safetensors", "trainer.pt", "checkpoint.json"]
    assert found == {
        *("run.json", "config.toml", "metrics.jsonl", "log.txt", ".lock", "best.json", "last.json"),
        "trained_on.json",
        *(f"checkpoints/{step}/{name}" for step in steps for name in per_checkpoint),
        *(f"samples/step_{step:06d}.png" for step in (0, 2, 4, 6)),
        "samples/first_batch.png",
    }
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "done"
    assert record["device"] == "cpu, fp32"
    assert result.to_dict()["location"] == str(run)
    again = resolve(TrainDsrConfig, config_file=run / "config.toml").config
    assert again.model_copy(update={"run": run}) == config(
        tiny_data, run, **{"engine.checkpoint_every_steps": 0}
    )


@pytest.mark.slow
def test_overfits_a_few_faces(tiny_data, tmp_path):
    events = []
    flags = {"epochs": 100, "engine.eval_every_epochs": 100, "engine.checkpoint_every_steps": 0}
    flags |= {"augment.enabled": False, "model.channels": 16, "optim.lr": 4e-3}
    train_dsr.run(config(tiny_data, tmp_path / "run", **flags), emit=events.append)
    evaluations = [event for event in events if isinstance(event, EvalDone)]
    assert evaluations[0].metrics["psnr_gain_db"] == pytest.approx(0, abs=0.02)  # a zero tail: bicubic
    losses = [event.metrics["loss/pixel"] for event in events if isinstance(event, StepDone)]
    assert sum(losses[-4:]) < 0.85 * sum(losses[:4])


def test_refuses_to_overwrite_and_to_resume_with_other_settings(tiny_data, tmp_path):
    run = tmp_path / "run"
    train_dsr.run(config(tiny_data, run, epochs=1), emit=lambda event: None)
    with pytest.raises(RunError, match="holds a run") as caught:
        train_dsr.run(config(tiny_data, run, epochs=1), emit=lambda event: None)
    assert caught.value.id == "run-exists"
    with pytest.raises(RunError, match="batch_size: 8 -> 4") as caught:
        train_dsr.run(config(tiny_data, run, epochs=1, batch_size=4, resume=True), emit=lambda event: None)
    assert caught.value.id == "not-resumable"
    with pytest.raises(RunError, match="no run to resume"):
        train_dsr.run(config(tiny_data, tmp_path / "none", resume=True), emit=lambda event: None)


def test_a_missing_vlr_size_is_a_data_error(tiny_data, tmp_path):
    with pytest.raises(DataError, match="24 px"):
        train_dsr.run(config(tiny_data, tmp_path / "run", vlr_size=24), emit=lambda event: None)


def test_missing_identity_weights_fail_the_run_before_anything_is_measured(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(train_dsr, "choose_workers", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(WeightsError):
        train_dsr.run(
            config(tiny_data, tmp_path / "run", identity_weights=tmp_path / "no.pt"), emit=lambda event: None
        )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_flat_folders_train_with_flips_only(flat_data, tmp_path):
    events = []
    train_dsr.run(config(flat_data, tmp_path / "run", epochs=1), emit=events.append)
    notes = " ".join(event.message for event in events if isinstance(event, Note))
    assert "only mirrored" in notes
    assert "derived" in notes


@pytest.mark.parametrize("size_px", [24, 32])
def test_other_sizes(tmp_path, size_px):
    from tests.commands.conftest import make_data

    data = make_data(tmp_path / "data", persons=(2, 2, 1), images=2, size_px=size_px)
    result = train_dsr.run(
        config(data, tmp_path / "run", vlr_size=size_px, epochs=1), emit=lambda event: None
    )
    assert result.outcome.status == "done"


def test_workers_see_the_same_batches(tiny_data, tmp_path):
    """One and two worker processes train the very same weights as none."""
    train_dsr.run(config(tiny_data, tmp_path / "none", epochs=1), emit=lambda event: None)
    train_dsr.run(config(tiny_data, tmp_path / "two", epochs=1, workers=2), emit=lambda event: None)
    assert_equal(last_weights(tmp_path / "none"), last_weights(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.parametrize("die_at", [1, 2, 5])
def test_sigkill_and_resume_give_the_uninterrupted_weights(tiny_data, whole, tmp_path, die_at):
    flags = TINY | {"data": tiny_data}
    run = tmp_path / "cut"
    died = spawn("train-dsr", flags | {"run": run, "die_at": die_at})
    assert died.returncode == -9, died.stderr
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    (run / "checkpoints" / ".tmp-step_000009-1").mkdir()  # what a kill in the middle of a save leaves
    resumed = spawn("train-dsr", flags | {"run": run, "resume": True})
    assert resumed.returncode == 0, resumed.stderr
    assert_equal(last_weights(whole), last_weights(run))
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    assert not list((run / "checkpoints").glob(".tmp*"))
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM to catch")
@pytest.mark.parametrize(("name", "workers"), [("SIGTERM", 0), ("SIGTERM", 2), ("SIGHUP", 0)])
def test_a_request_to_end_is_an_interruption(tiny_data, tmp_path, name, workers):
    """Also when it goes to the workers too, as it does when a scheduler cancels a job."""
    run = tmp_path / "run"
    endless = {"epochs": 5000, "engine.eval_every_epochs": 5000, "workers": workers}
    process = spawn("train-dsr", TINY | {"data": tiny_data, "run": run} | endless, wait=False)
    try:
        for _ in range(600):
            if (run / "checkpoints" / "step_000003").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(process.pid, getattr(signal, name)) if workers else process.send_signal(
            getattr(signal, name)
        )
        assert process.wait(timeout=60) == {"SIGTERM": 143, "SIGHUP": 129}[name], process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert name in (run / "log.txt").read_text()


@pytest.mark.slow
def test_two_ranks_give_one_ranks_losses(tiny_data, tmp_path):
    flags = TINY | {"data": tiny_data}
    whole = spawn("train-dsr", flags | {"run": tmp_path / "one", "log": tmp_path / "seen-one"})
    assert whole.returncode == 0, whole.stderr
    two = spawn("train-dsr", flags | {"run": tmp_path / "two", "log": tmp_path / "seen-two"}, torchrun=2)
    assert two.returncode == 0, two.stderr
    one, other = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    losses = [[line["loss/total"] for line in lines if line["event"] == "step"] for lines in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, tensor in last_weights(tmp_path / "one").items():
        torch.testing.assert_close(tensor, last_weights(tmp_path / "two")[name], rtol=1e-3, atol=1e-5)
    seen = [
        json.loads(line)
        for rank in (0, 1)
        for line in Path(f"{tmp_path}/seen-two.{rank}").read_text().splitlines()
    ]
    for epoch in range(3):
        indices = sorted(index for _, at, batch in seen for index in batch if at == epoch)
        assert indices == list(range(16))  # every sample once an epoch


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_it_resumes(tiny_data, tmp_path):
    flags = TINY | {"data": tiny_data, "run": tmp_path / "run"}
    died = spawn("train-dsr", flags | {"die_at": 4}, torchrun=2)
    assert died.returncode != 0
    # The survivor says so, unless torchrun ends it first; torchrun's own report says it always.
    assert '"error": "rank-lost"' in died.stderr or "Signal 9 (SIGKILL) received" in died.stderr
    status = json.loads((tmp_path / "run" / "run.json").read_text())["status"]
    assert status in ("failed", "interrupted")
    resumed = spawn("train-dsr", flags | {"resume": True}, torchrun=2)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((tmp_path / "run" / "last.json").read_text())["step"] == 6


def test_a_run_folder_that_is_removed_ends_the_training(tiny_data, tmp_path):
    run = tmp_path / "run"

    def remove(event):
        if isinstance(event, StepDone):
            shutil.rmtree(run)

    with pytest.raises(RunError) as caught:
        train_dsr.run(config(tiny_data, run), emit=remove)
    assert caught.value.id == "run-removed"
    assert not (run / "run.json").exists()


def test_one_network_for_many_sizes(tiny_data, tmp_path):
    flags = {"model.arch": "any_size", "epochs": 1, "model.mixer_rank": 2}
    result = train_dsr.run(config(tiny_data, tmp_path / "run", **flags), emit=lambda event: None)
    assert result.next_command.endswith("--vlr-size 16")
    loaded = load_dsr(tmp_path / "run")
    assert loaded.vlr_size is None
    for size in (8, 13, 16, 48):
        assert loaded.model(torch.rand(1, 3, size, size)).shape == (1, 3, 112, 112)
    many = ManySizesDataset(open_data(tiny_data).split("train"), size_px=16, seed=3)
    first, again, other = many[2, 5, 21], many[2, 5, 21], many[3, 5, 21]
    assert first.inputs.shape == (21, 21, 3)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.high, other.high)  # no geometry, another degradation
    inputs = [many[epoch, 5, 21].inputs for epoch in range(8)]
    assert len({image.numpy().tobytes() for image in inputs}) > 2
    assert many[5].inputs.shape == (16, 16, 3)
