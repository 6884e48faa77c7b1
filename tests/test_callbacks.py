"""Callbacks for trainers, with stand-ins for these, and with the real ones where they are installed."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from dsrface import callbacks

pytest_plugins = ["pytester"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves, in seconds."""
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


def steps(clock, begin, end, *, waits, works):
    """Let a trainer take five steps."""
    for _ in range(5):
        clock.now += waits
        begin()
        clock.now += works
        end()


def test_lightning_logs_the_share_and_says_it_once(monkeypatch, capsys, clock):
    stand_in = SimpleNamespace(Callback=object)
    monkeypatch.setitem(sys.modules, "lightning", SimpleNamespace(pytorch=stand_in))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    logged = []
    module = SimpleNamespace(log=lambda name, value: logged.append((name, value)))
    callback = callbacks.for_lightning()
    hooks = (
        lambda: callback.on_train_batch_start(None, module, None, 0),
        lambda: callback.on_train_batch_end(None, module, None, None, 0),
    )
    steps(clock, *hooks, waits=0.03, works=0.01)
    callback.on_validation_start(None, module)
    clock.now += 60  # validation is no waiting for data
    steps(clock, *hooks, waits=0.03, works=0.01)
    callback.on_train_end(SimpleNamespace(is_global_zero=True, train_dataloader=None), module)
    assert logged[-1] == ("data_wait_share", pytest.approx(0.75))
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "dsrface: a step takes 40.0 ms, 75% of it waiting for its batch: dsrface doctor -- "
    )


def test_the_share_is_in_the_logs_of_transformers(monkeypatch, capsys, clock):
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(TrainerCallback=object))
    callback = callbacks.for_transformers()
    state = SimpleNamespace(is_world_process_zero=True, log_history=[{"loss": 1.0}])
    hooks = (lambda: callback.on_step_begin(None, None, None), lambda: callback.on_step_end(None, None, None))
    steps(clock, *hooks, waits=0.001, works=0.049)
    logs = {"loss": 1.0}
    callback.on_log(None, state, None, logs=logs)
    callback.on_train_end(None, state, None)
    assert logs["data_wait_share"] == state.log_history[0]["data_wait_share"] == pytest.approx(0.02)
    assert capsys.readouterr().out.strip().endswith("2% of it waiting for its batch: the loader keeps up")


def test_the_loader_is_examined_when_asked(monkeypatch, capsys, clock):
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(TrainerCallback=object))
    callback = callbacks.for_transformers(examine=True)
    report = SimpleNamespace(target="DataLoader(Faces)", verdict_line=lambda: "ready")
    asked = []
    monkeypatch.setattr("dsrface.doctor.objects.examine_object", lambda *given: asked.append(given) or report)
    hooks = (lambda: callback.on_step_begin(None, None, None), lambda: callback.on_step_end(None, None, None))
    steps(clock, *hooks, waits=0.01, works=0.02)
    state = SimpleNamespace(is_world_process_zero=True, log_history=[])
    callback.on_train_end(None, state, None, train_dataloader="loader")
    assert asked == [("loader", {"step_ms": pytest.approx(20)})]
    assert capsys.readouterr().out.endswith("; DataLoader(Faces): ready\n")


def test_too_few_steps_are_said():
    assert "too few steps" in callbacks.WaitClock().verdict()


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # Lightning with a later torch
def test_the_real_lightning_takes_it(capsys):
    lightning = pytest.importorskip("lightning")
    import torch
    from torch.utils.data import DataLoader

    class Module(lightning.LightningModule):  # type: ignore[name-defined]
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            return self.net(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[callbacks.for_lightning()],
    )
    trainer.fit(Module(), DataLoader(torch.rand(20, 1)))
    assert "dsrface: a step takes" in capsys.readouterr().out
    assert 0 <= float(trainer.callback_metrics["data_wait_share"]) <= 1


def test_the_real_trainer_of_transformers_takes_it(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(1, 1)

        def forward(self, x):
            return {"loss": self.net(x).sum()}

    trainer = transformers.Trainer(
        Model(),
        transformers.TrainingArguments(
            str(tmp_path), use_cpu=True, report_to="none", max_steps=6, logging_steps=3, disable_tqdm=True
        ),
        train_dataset=[{"x": torch.rand(1)} for _ in range(40)],
        callbacks=[callbacks.for_transformers()],
    )
    trainer.train()
    assert "dsrface: a step takes" in capsys.readouterr().out
    assert "data_wait_share" in trainer.state.log_history[0]


def test_pytest_has_the_fixture_and_loads_nothing_for_it(pytester):
    pytester.makepyfile("""
        def test_with_it(assert_workers_safe):
            assert_workers_safe(range(40), start_method="spawn", probe=False, budget_s=20)
    """)
    done = pytester.runpytest_inprocess("-p", "dsrface.pytest_plugin", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=1)
    code = "import sys, dsrface.pytest_plugin; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert shown.stdout.split() == ["False", "False"]
