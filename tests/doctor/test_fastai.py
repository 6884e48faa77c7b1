"""fastai's loader starts torch's workers without being a DataLoader.

Its place is taken here by a class with the parts that count, as fastai 2.8 has them: the package itself would
bring a hundred megabytes for this alone.
"""

from __future__ import annotations

import json
import os
import sys

import pytest

from dsrface.cli.app import run

LOAD = """
import random
from types import SimpleNamespace
import torch


class DataLoader:
    def __init__(self, dataset, bs=4, num_workers=0, indexed=True):
        self.dataset, self.bs, self.n, self.indexed = dataset, bs, len(dataset), indexed
        self.shuffle, self.drop_last, self.prebatched = True, False, False
        self.rng = random.Random(7)
        self.fake_l = SimpleNamespace(
            num_workers=num_workers, pin_memory=False, timeout=0, persistent_workers=False
        )

    def __iter__(self):
        keys = self.rng.sample(range(self.n), self.n)
        for begin in range(0, self.n, self.bs):
            yield self.do_batch([self.do_item(key) for key in keys[begin : begin + self.bs]])

    def do_item(self, key):
        return torch.tensor([float(self.dataset[key])])

    def do_batch(self, items):
        return torch.stack(items)

    def wif(self):
        self.is_started = True
"""
CORE = """
class DataLoaders:
    def __init__(self, *loaders):
        self.loaders = list(loaders)

    def __getitem__(self, number):
        return self.loaders[number]
"""
SCRIPT = """
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader


def make():
    return DataLoaders(DataLoader(list(range(400)), num_workers=2), DataLoader([1, 2]))


if __name__ == "__main__":
    net = torch.nn.Linear(1, 1)
    for batch in make().loaders[0]:
        net(batch).sum().backward()
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    files = {
        "fastai/__init__.py": "",
        "fastai/data/__init__.py": "",
        "fastai/data/load.py": LOAD,
        "fastai/data/core.py": CORE,
        "fastai/torch_core.py": "from torch import manual_seed as set_seed\n",
        "train.py": SCRIPT,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "train.py"


def loaders(*arguments):
    run(["doctor", "--budget", "20", "--output", "report.json", *arguments])
    with open("report.json", encoding="utf-8") as file:
        result = json.load(file)
    return result.get("loaders", [{"report": result}])


@pytest.mark.parametrize("form", ["launch", "callable"])
def test_its_items_and_batches_are_examined(script, form, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(script.parent), prepend=os.pathsep)
    launch = ("--", sys.executable, str(script))
    [loader] = loaders(*(launch if form == "launch" else ("--dataset", f"{script}:make")))
    statuses = {check["id"]: check["status"] for check in loader["report"]["checks"]}
    assert "fail" not in statuses.values()
    assert statuses["worker.consistency"] == "pass"
    assert statuses["ds.rng"] == "pass"  # the loader's own generator belongs to the training process
    if form == "launch":
        assert (loader["num_workers"], loader["batch_size"], loader["dataset_class"]) == (2, 4, "Items")
        assert loader["made_at"].endswith("train.py:13")
