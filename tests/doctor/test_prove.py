"""`--prove`: what is called a gain, and that a change of workers leaves batches and losses as they are."""

from __future__ import annotations

import random
import sys
import textwrap
from types import MappingProxyType

import pytest
from torch.utils.data import DataLoader

from dsrface.doctor.launch import prove
from dsrface.doctor.launch.prove import Job, differences, gain_of
from dsrface.doctor.launch.trial import configure

TWO = MappingProxyType(
    {
        "num_workers": 2,
        "prefetch_factor": 2,
        "persistent_workers": True,
        "pin_memory": False,
        "multiprocessing_context": None,
    }
)
SCRIPT = """
import random
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset

class Items(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, index):
        return torch.randn(8) + index, float(np.random.rand()), random.random()

if __name__ == "__main__":
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    for epoch in range(9):
        for x, y, z in DataLoader(Items(), 4, shuffle=True):
            (net(x)[:, 0] - y - z).square().mean().backward()
"""


def job(**values):
    defaults = {
        "command": ["python", "train.py"],
        "made_at": "train.py:1",
        "ready": 4,
        "recommended": TWO,
        "is_stream": False,
        "steps": 8,
        "step_s": 0.1,
        "start_s": 3.0,
    }
    return Job(**{**defaults, **values})


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.4])
def test_runs_of_equal_settings_are_hardly_ever_called_faster_on_a_noisy_machine(noise):
    draws = random.Random(0)
    runs = [
        [(draws.lognormvariate(0, noise), draws.lognormvariate(0, noise)) for _ in range(prove.NUM_PAIRS)]
        for _ in range(1000)
    ]
    assert sum(gain_of(pairs).is_faster for pairs in runs) <= 10


def test_a_gain_has_an_interval_and_is_called_one_when_all_of_it_is():
    gain = gain_of([(2.0, 1.0), (2.1, 1.0), (1.9, 1.0), (2.0, 1.0), (2.2, 1.0), (1.8, 1.0)])
    assert gain.low < 2.0 < gain.high
    assert gain.is_faster
    assert gain_of([(0.5, 1.0)] * 6).is_slower
    assert not gain_of([(1.0, 1.0)] * 6).is_faster


def test_settings_of_a_loader_that_was_made_are_changed():
    loader = DataLoader(range(4), num_workers=0)
    configure(loader, TWO)
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (2, 2, True)
    configure(loader, {**TWO, "num_workers": 0, "prefetch_factor": None, "persistent_workers": False})
    assert [int(x) for x in loader] == [0, 1, 2, 3]


def run_of(digests, losses):
    return {"digests": digests, "losses": losses}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (run_of(["a", "b"], {"0": 1.0, "1": 2.0}), ""),
        (run_of(["a", "c"], {"0": 1.0, "1": 2.0}), "batches differ (step 2 first)"),
        (run_of(["a", "b"], {"0": 1.0, "1": 3.0}), "losses differ (by 33.3% at most)"),
        (run_of(["a", "b"], {"0": 1.0, "1": float("nan")}), "losses differ (by inf% at most)"),
    ],
)
def test_what_differs_between_two_runs(other, said):
    assert differences(run_of(["a", "b"], {"0": 1.0, "1": 2.0}), other) == said


def fake(monkeypatch, compared, seconds):
    """Let runs give these notes and seconds, by whether arguments are changed, in turn."""

    def run(job, arguments, *, steps, compares):
        kind = "recommended" if arguments else "present"
        return compared[kind].pop(0) if compares else {"step_s": [seconds[kind]] * steps}

    monkeypatch.setattr(prove, "_run", run)


def test_data_that_changes_with_the_settings_is_a_failure_unless_it_always_changes(monkeypatch):
    a, b, c = (run_of([name], {}) for name in "abc")
    seconds = {"present": 0.2, "recommended": 0.1}
    fake(monkeypatch, {"present": [a, a], "recommended": [b]}, seconds)
    found = prove.prove(job(), say=lambda _: None)
    assert (found.status, found.summary[:14]) == ("fail", "batches differ")
    fake(monkeypatch, {"present": [a, c], "recommended": [b]}, seconds)
    found = prove.prove(job(), say=lambda _: None)
    assert found.status == "pass"
    assert "cannot be compared" in found.summary
    fake(monkeypatch, {"present": [a], "recommended": [a]}, {"present": 0.1, "recommended": 0.1})
    assert prove.prove(job(), say=lambda _: None).status == "info"
    fake(monkeypatch, {"present": [a], "recommended": [a]}, {"present": 0.1, "recommended": 0.2})
    assert prove.prove(job(), say=lambda _: None).status == "warn"


@pytest.mark.slow
def test_workers_change_neither_batches_nor_losses_though_items_are_random_and_nothing_is_seeded(tmp_path):
    file = tmp_path / "train.py"
    file.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    work = job(command=[sys.executable, str(file)], made_at=f"{file}:15")
    found, is_wrong = prove._compare(work, lambda _: None)
    assert not is_wrong
    assert found == "8 batches equal, losses within 0.0e+00"  # of two epochs


@pytest.mark.slow
def test_a_run_that_ends_early_gives_its_last_words(tmp_path):
    file = tmp_path / "train.py"
    file.write_text("import torch\nraise SystemExit('no data')", encoding="utf-8")
    found = prove.prove(job(command=[sys.executable, str(file)]), say=lambda _: None)
    assert found.status == "warn"
    assert "no data" in found.summary
