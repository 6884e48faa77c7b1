"""Objects that people hold in Python: dsrface.examine and dsrface.assert_workers_safe."""

from __future__ import annotations

import io
import sys
import time

import pytest
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, TensorDataset

import dsrface
from dsrface.errors import UsageError

LOOK = {"probe": False, "budget_s": 5}


class Held(Dataset):
    def __init__(self, path):
        self.file = open(path, "rb")  # noqa: SIM115

    def __len__(self):
        return 500

    def __getitem__(self, index):
        self.file.seek(index)
        return self.file.read(1)[0]


class Sleepy(Dataset):
    def __len__(self):
        return 500

    def __getitem__(self, index):
        time.sleep(999)


class Module:
    def setup(self, stage):
        self.stage = stage

    def train_dataloader(self):
        return DataLoader(range(100), batch_size=7)


class Trainer:
    def get_train_dataloader(self):
        return DataLoader(range(100), batch_size=5)


def test_a_loader_is_examined_with_its_own_batches_and_goes_on_as_it_was():
    loader = DataLoader(TensorDataset(torch.arange(200)), batch_size=8, shuffle=True)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    report = dsrface.examine(loader, budget_s=30, step_ms=5)
    assert report.verdict == "pass", str(report)
    assert report.check("worker.consistency").status == "pass"
    assert report.target == "DataLoader(TensorDataset)"
    assert torch.equal(torch.rand(3), expected)


def test_examined_in_this_process_a_program_draws_on_as_it_would_have(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # then no fork could use it
    own = torch.Generator().manual_seed(1)
    loader = DataLoader(TensorDataset(torch.arange(40)), batch_size=8, shuffle=True, generator=own)
    before = own.get_state()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    dsrface.examine(loader, budget_s=20, step_ms=5)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(own.get_state(), before)


@pytest.mark.skipif(sys.platform != "linux", reason="examined in a fork there alone")
def test_a_forkserver_that_runs_already_does_not_fail_the_examination():
    dataset = TensorDataset(torch.arange(64))
    loader = DataLoader(dataset, batch_size=8, num_workers=1, multiprocessing_context="forkserver")
    assert len(list(loader)) == 8
    report = dsrface.examine(loader, budget_s=40, step_ms=5, start_method="forkserver")
    assert report.check("worker.forkserver").status == "pass", str(report)


@pytest.mark.parametrize(("value", "size"), [(Module(), 7), (Trainer(), 5)])
def test_modules_and_trainers_give_their_training_loader(value, size):
    report = dsrface.examine(value, **LOOK)
    assert report.check("ds.output").data["batch_bytes"] == 8 * size, str(report)


def test_an_unsafe_data_set_fails_the_test_and_says_why(tmp_path):
    (tmp_path / "data").write_bytes(bytes(500))
    held = Held(tmp_path / "data")
    with pytest.raises(AssertionError, match=r"(?s)ds.unpicklable.*fix: "):
        dsrface.assert_workers_safe(held, start_method="spawn", **LOOK)
    html = dsrface.examine(held, start_method="spawn", **LOOK)._repr_html_()
    assert "<b style" in html
    assert "ds.unpicklable" in html
    console = Console(width=300, record=True, file=io.StringIO())
    report = dsrface.examine([1, lambda: 0], start_method="spawn", **LOOK)
    console.print(report)
    shown = console.export_text()
    assert "dataset[1]" in shown  # brackets are no markup
    assert shown.split() == str(report).split()


@pytest.mark.skipif(sys.platform != "linux", reason="only a fork has a time limit")
def test_items_that_never_come_end_the_examination_not_this_process():
    report = dsrface.examine(Sleepy(), budget_s=4)
    assert report.check("ds.items").status == "fail"


def test_what_is_no_data_set_is_a_usage_error():
    with pytest.raises(UsageError):
        dsrface.examine(42)
