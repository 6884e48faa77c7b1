"""The loop: accumulation, schedule, averaged weights, resuming, stopping, NaN."""

from __future__ import annotations

import itertools
import json
import math
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from dsrface.engine import loop
from dsrface.engine.checkpoint import find_last, load_trainer_state
from dsrface.engine.signals import Stop
from dsrface.engine.task import Validation
from dsrface.errors import RunError, TrainingError, WorkerError
from dsrface.events import EvalDone, Note, RunFinished, StepDone
from tests.engine.toy import ToySource, ToyTask, train

HANG_UP = [(signal.SIGHUP, 129)] if hasattr(signal, "SIGHUP") else []


def weights(run):
    return load_file(run / "checkpoints" / find_last(run).name / "model.safetensors")


def assert_same(first, second, **kwargs):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=kwargs.get("atol", 0), msg=name)


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_micro_batches_equal_one_big_batch(tmp_path, accumulate):
    train(tmp_path / "whole", ToyTask(dropout=0))
    train(tmp_path / "cut", ToyTask(dropout=0), engine={"accumulate": accumulate})
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for name in ("backbone.weight", "backbone.bias", "head.weight", "head.bias"):
        torch.testing.assert_close(whole[name], cut[name], rtol=1e-5, atol=1e-6)


def test_lr_reaches_its_maximum_and_falls(tmp_path):
    _, recorder = train(tmp_path / "run", ToyTask(), engine={"log_every_steps": 1})
    rates = [event.metrics["lr"] for event in recorder.of(StepDone)]
    assert len(rates) == 12
    assert max(rates) == pytest.approx(1e-2)
    assert rates.index(max(rates)) == 2  # the warm-up is a quarter of twelve steps
    assert rates[-1] == pytest.approx(1e-4)


def test_validates_what_it_saves(tmp_path):
    task = ToyTask()
    train(tmp_path / "run", task)
    saved = weights(tmp_path / "run")
    assert torch.equal(saved["backbone.weight"], task.validated[-1])
    assert not torch.equal(saved["backbone.weight"], task.backbone.weight)  # averaged, not the last ones
    raw = load_trainer_state(find_last(tmp_path / "run"))["task"]
    assert torch.equal(raw["backbone.weight"], task.backbone.weight)
    # buffers are averaged (floats) or copied (integers) with the rest
    assert not torch.equal(saved["mean"], task.mean)
    assert saved["num_seen"] == task.num_seen == 12


@pytest.mark.parametrize("stop_after", [1, 3, 4, 7, 11])
@pytest.mark.parametrize("phases", [1, 2])
def test_resume_is_exact(tmp_path, stop_after, phases):
    epochs = (4,) if phases == 1 else (1, 3)
    _, whole = train(tmp_path / "whole", ToyTask(phases=phases), epochs=epochs, engine={"log_every_steps": 1})

    class Killed(BaseException):
        pass

    def kill(given):
        if given == stop_after:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "cut", ToyTask(phases=phases), ToySource(on_batch=kill), epochs=epochs)
    task = ToyTask(phases=phases)
    outcome, rest = train(tmp_path / "cut", task, epochs=epochs, resume=True, engine={"log_every_steps": 1})
    assert task.recalled == {"has_validated": True}
    assert outcome.step == 12
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    losses = {event.step: event.metrics for event in whole.of(StepDone)}
    for event in rest.of(StepDone):
        assert event.metrics == losses[event.step]
    a, b = (load_trainer_state(find_last(tmp_path / name)) for name in ("whole", "cut"))
    assert a["best"] == b["best"]
    assert a["first_metrics"] == b["first_metrics"]
    for number, state in a["optimizer"]["state"].items():
        assert torch.equal(state["exp_avg_sq"], b["optimizer"]["state"][number]["exp_avg_sq"])


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), *HANG_UP])
@pytest.mark.parametrize("at", [2, 3, 12])
def test_a_signal_saves_and_ends(tmp_path, signum, code, at):
    stop = Stop()

    def send(given):
        if given == at - 1:
            stop.signum = signum

    outcome, recorder = train(tmp_path / "run", ToyTask(), ToySource(on_batch=send), stop=stop)
    assert (outcome.status, outcome.exit_code, outcome.step) == ("interrupted", code, at)
    assert recorder.of(RunFinished)[0].status == "interrupted"
    assert signal.Signals(signum).name in recorder.of(Note)[-1].message
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    train(tmp_path / "whole", ToyTask())
    outcome, recorder = train(tmp_path / "run", ToyTask(), resume=True)
    assert outcome.status == "done"
    assert recorder.of(EvalDone)[-1].step == 12  # also when the signal fell on the last step
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_workers_dying_of_ctrl_c_are_an_interruption(tmp_path):
    stop = Stop()

    def die(given):
        if given == 3:
            stop.signum = signal.SIGINT
            raise WorkerError("gone")

    outcome, _ = train(tmp_path / "run", ToyTask(), ToySource(on_batch=die), stop=stop)
    assert (outcome.status, outcome.step, outcome.saved_step) == ("interrupted", 3, 3)
    assert find_last(tmp_path / "run").name == "step_000003"


def test_a_step_broken_off_by_a_signal_is_not_counted_as_saved(tmp_path, monkeypatch):
    stop = Stop()
    task = ToyTask()
    real = task.forward

    def die(batch):
        if len(task.epoch_seen) == 3:
            stop.signum = signal.SIGTERM
            raise RuntimeError("DataLoader worker (pid 5) is killed by signal: Terminated. ")
        return real(batch)

    monkeypatch.setattr(task, "forward", die)
    outcome, _ = train(tmp_path / "run", task, stop=stop, engine={"eval_every_epochs": 4})
    assert (outcome.status, outcome.exit_code) == ("interrupted", 143)
    assert (outcome.step, outcome.saved_step) == (3, 2)
    assert find_last(tmp_path / "run").name == "step_000002"


def test_a_dead_worker_fails_the_run(tmp_path):
    def die(given):
        if given == 3:
            raise WorkerError("gone")

    with pytest.raises(WorkerError):
        train(tmp_path / "run", ToyTask(), ToySource(on_batch=die))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_nan_names_step_batch_and_last_good_checkpoint(tmp_path, every):
    """Sample 5 makes the loss NaN; its batch is found at the next fetch, whatever the distance."""
    source = ToySource()
    wanted = next(
        (number, batch.indices.tolist()) for number, batch in enumerate(source.epoch(0)) if 5 in batch.indices
    )
    with pytest.raises(TrainingError) as caught:
        train(
            tmp_path / "run",
            ToyTask(nan_at=5),
            engine={"log_every_steps": every, "checkpoint_every_steps": 0},
        )
    error = caught.value
    assert error.id == "non-finite-loss"
    assert f"step {wanted[0] + 1} " in error.message
    assert all(f"face-{index}.png" in error.where for index in wanted[1])
    assert "step_000000" in error.where
    assert all(math.isfinite(value) for value in weights(tmp_path / "run")["head.weight"].flatten().tolist())


def test_nan_gradient_of_a_finite_loss_is_found(tmp_path):
    class Root(ToyTask):
        def forward(self, batch):
            loss, metrics = super().forward(batch)
            return loss + (self.head.bias[0] * 0).sqrt(), metrics

    with pytest.raises(TrainingError, match="step 1 "):
        train(tmp_path / "run", Root())


def test_best_is_kept_and_pointed_at(tmp_path):
    score = {0: 0.1, 3: 0.9, 6: 0.5, 9: 0.4, 12: 0.3}
    outcome, recorder = train(
        tmp_path / "run",
        ToyTask(score=score.get),
        engine={"keep_checkpoints": 1, "checkpoint_every_steps": 0},
    )
    assert outcome.best_step == 3
    assert [event.is_best for event in recorder.of(EvalDone)] == [True, True, False, False, False]
    assert json.loads((tmp_path / "run" / "best.json").read_text())["checkpoint"] == "checkpoints/step_000003"
    assert json.loads((tmp_path / "run" / "last.json").read_text())["checkpoint"] == "checkpoints/step_000012"
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step_000003",
        "step_000012",
    ]


def test_phases_freeze_and_scale_groups(tmp_path):
    task = ToyTask(phases=2)
    before = task.backbone.weight.detach().clone()
    train(tmp_path / "one", task, epochs=(2, 0))
    assert torch.equal(task.backbone.weight, before)
    train(tmp_path / "two", task := ToyTask(phases=2), epochs=(2, 2))
    assert not torch.equal(task.backbone.weight, before)


def test_refuses_a_changed_number_of_steps(tmp_path):
    train(tmp_path / "run", ToyTask())
    with pytest.raises(RunError, match="steps"):
        train(tmp_path / "run", ToyTask(), epochs=(5,), resume=True)


def test_refuses_a_short_epoch(tmp_path):
    class Short(ToySource):
        def epoch(self, epoch, start_batch=0):
            yield next(super().epoch(epoch, start_batch))

    with pytest.raises(RunError, match="1 batches of 3"):
        train(tmp_path / "run", ToyTask(), Short())


def test_out_of_memory_says_what_to_lower(tmp_path):
    class Hungry(ToyTask):
        def forward(self, batch):
            torch.empty(10**15)
            return super().forward(batch)

    with pytest.raises(TrainingError, match="Out of memory") as caught:
        train(tmp_path / "run", Hungry())
    assert "engine.accumulate" in caught.value.hint


def test_bf16_autocast_trains(tmp_path):
    _, recorder = train(tmp_path / "run", ToyTask(dropout=0), epochs=(8,), amp="bf16")
    losses = [event.metrics["loss/total"] for event in recorder.of(StepDone)]
    assert losses[-1] < losses[0]


def test_fp16_scales_skips_overflows_and_resumes(tmp_path):
    """An overflowing gradient is skipped and the scale lowered; it is no reason to stop."""

    class Killed(BaseException):
        pass

    def kill(given):
        if given == 13:
            raise Killed

    epochs = {"epochs": (8,), "amp": "fp16"}
    _, recorder = train(tmp_path / "whole", ToyTask(), **epochs)
    losses = [event.metrics["loss/total"] for event in recorder.of(StepDone)]
    assert losses[-1] < losses[0]
    state = load_trainer_state(find_last(tmp_path / "whole"))
    assert state["scaler"]["scale"] <= 65536
    with pytest.raises(Killed):
        train(tmp_path / "cut", ToyTask(), ToySource(on_batch=kill), **epochs)
    train(tmp_path / "cut", ToyTask(), resume=True, **epochs)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert load_trainer_state(find_last(tmp_path / "cut"))["scaler"] == state["scaler"]


def test_fp16_stops_when_the_scale_cannot_be_lowered_any_more(tmp_path):
    """Skipped for ever, the run would end as done and have learned nothing."""

    class Root(ToyTask):
        def forward(self, batch):
            loss, metrics = super().forward(batch)
            return loss + (self.head.bias[0] * 0).sqrt(), metrics

    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "run", Root(), epochs=(8,), amp="fp16")
    assert caught.value.id == "non-finite-loss"
    assert "step 17 " in caught.value.message  # 2^16, halved sixteen times, is 1


def test_the_host_runs_ahead_of_a_gpu_by_one_step(monkeypatch):
    """Else a batch that waits for its buffer looks like one that waits for the disk."""
    log: list[str] = []

    class Event:
        def __init__(self, device):
            self.number = sum("end" in line for line in log)
            log.append(f"end {self.number}")

        def synchronize(self):
            log.append(f"wait {self.number}")

    monkeypatch.setattr(loop, "recorded_event", Event)
    steps = SimpleNamespace(device=torch.device("cuda"), step_end=None)
    for _ in range(3):
        loop._Loop._keep_pace(steps)
    assert log == ["end 0", "end 1", "wait 0", "end 2", "wait 1"]


def test_a_step_fetches_nothing(tmp_path, monkeypatch):
    """Between two fetches no tensor is read by the host: that would wait for the device in every step."""
    calls: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        real = getattr(torch.Tensor, name)

        def counted(self, *args, _real=real, _name=name):
            if self.requires_grad or self.dtype.is_floating_point:
                calls.append(_name)
            return _real(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    counts = []
    train(
        tmp_path / "run",
        ToyTask(),
        ToySource(on_batch=lambda _: counts.append(len(calls))),
        engine={"log_every_steps": 100, "checkpoint_every_steps": 0, "eval_every_epochs": 4},
    )
    per_step = [after - before for before, after in itertools.pairwise(counts)]
    assert per_step.count(0) >= 8  # all but the fetch at each epoch's end


def test_nan_at_validation_stops_and_is_not_saved(tmp_path):
    """A last step may be too large: the loss before it was finite, the network after it is not."""
    task = ToyTask(score=lambda step: math.nan if step else 0.0)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "run", task)
    assert caught.value.id == "non-finite-validation"
    assert "step_000002" in str(caught.value.where)
    assert find_last(tmp_path / "run").name == "step_000002"


def test_a_worker_killed_during_a_step_is_explained(tmp_path, monkeypatch):
    """torch's signal handler raises in the main thread, wherever that is; seldom it waits for a batch."""

    def killed(self, batch):
        raise RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. ")

    monkeypatch.setattr(ToyTask, "forward", killed)
    with pytest.raises(WorkerError) as caught:
        train(tmp_path / "run", ToyTask())
    assert caught.value.exit_code == 8
    assert "Killed" in str(caught.value) or "memory" in str(caught.value)


def test_equal_scores_are_told_apart_and_random_weights_are_never_the_best():
    best = Validation(score=1.0, tie=2.0)
    assert Validation(score=1.0, tie=3.0).beats(best)
    assert not Validation(score=1.0, tie=2.0).beats(best)
    assert not Validation(score=0.9, tie=9.0).beats(best)
    assert not Validation(score=2.0, is_eligible=False).beats(best)
