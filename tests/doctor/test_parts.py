"""Where an item's time goes: each part by name, all of the time, and nothing left replaced."""

from __future__ import annotations

import builtins
import functools
import io
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, default_collate

from dsrface.doctor.sizing.account import UNEXPLAINED, account, parts_line
from dsrface.doctor.sizing.handover import batch_costs
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.sizing.parts import parts_of


class Blur(torch.nn.Module):
    def forward(self, image):
        time.sleep(0.004)
        return image


class ToTensor:
    def __call__(self, image):
        return torch.from_numpy(np.array(image))


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class Photos(Dataset):
    def __init__(self, folder):
        self.file = str(folder / "photo.png")
        Image.new("RGB", (40, 40)).save(self.file)
        self.transform = Compose([ToTensor(), Blur(), functools.partial(torch.flip, dims=[0])])

    def __len__(self):
        return 100

    def __getitem__(self, index):
        image = Image.open(self.file).convert("RGB")
        time.sleep(0.002)  # nobody's function
        return self.transform(image)


def stream():
    while True:
        time.sleep(0.002)
        yield Image.new("L", (2, 2))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return Photos(tmp_path_factory.mktemp("photos"))


def test_each_part_is_named_and_together_they_are_the_item(photos):
    before = builtins.open, io.open, Image.open, ImageFile.ImageFile.load
    parts = parts_of(photos.__getitem__, range(60), photos, budget_s=0.5)
    found = parts.seconds
    assert parts.decoded_pixels == 1600
    assert {"Blur", "ToTensor", "decode", "open and read"} <= set(found)
    [line] = [name for name in found if "nobody's function" in name]
    assert "test_parts.py:" in line
    assert min(found["Blur"], found[line]) > 0  # which of both is longer, a busy machine decides
    assert sum(found.values()) > 0.006  # both sleeps
    assert found[UNEXPLAINED] < 0.1 * sum(found.values())
    assert (builtins.open, io.open, Image.open, ImageFile.ImageFile.load) == before
    assert "__call__" not in vars(Blur)


def test_a_library_s_data_set_is_shown_by_its_own_lines():
    rows = Subset(ConcatDataset([TensorDataset(torch.zeros(50, 1000))]), range(50))
    found = parts_of(rows.__getitem__, range(40), rows, budget_s=0.2).seconds
    lines = [name for name in found if Path(name.partition(":")[0]) == Path("torch/utils/data/dataset.py")]
    assert any("return tuple(tensor[index]" in line for line in lines)


def test_items_of_a_stream_resume_where_they_stood():
    items = stream()
    found = parts_of(lambda _: next(items), range(40), None, budget_s=0.2).seconds
    assert any("time.sleep(0.002)" in name for name in found)


def test_what_raises_leaves_everything_as_it_was(photos):
    with pytest.raises(FileNotFoundError):
        parts_of(lambda _: Image.open("missing.png"), range(4), photos, budget_s=0.1)
    assert builtins.open is io.open


def test_a_file_reads_as_ever_while_it_is_timed(tmp_path):
    file = tmp_path / "rows.bin"
    file.write_bytes(b"one\ntwo\n")
    seen = []

    def fetch(_):
        with open(str(file), "rb") as rows:
            seen.append((rows.name, rows.mode, rows.readline(), rows.read(), rows.tell()))
        seen.append(file.read_bytes())

    found = parts_of(fetch, range(8), None, budget_s=0.1).seconds
    assert set(seen) == {(str(file), "rb", b"one\n", b"two\n", 8), b"one\ntwo\n"}
    assert found["open and read"] > 0


def test_a_batch_is_collated_and_sent():
    items = [torch.zeros(8, 8) for _ in range(4)]
    costs = batch_costs(default_collate, items, {"x": default_collate(items)})
    assert set(costs) == {"collate", "send to the training process"}
    assert min(costs.values()) > 0


def test_the_line_names_large_parts_and_sums_up_small_ones():
    parts = {"decode": 0.006, "Resize": 0.003, "Flip": 0.00001, "Pad": 0.00002, UNEXPLAINED: 0.001}
    made = account(ItemCost(0.01, 0, 0, 1.0, 9), parts, {"collate": 0.0001})
    assert list(made["item_parts_ms"]) == ["decode", "Resize", "other", UNEXPLAINED]
    assert sum(made["item_parts_ms"].values()) == pytest.approx(10.03)
    assert parts_line(made) == (
        "an item's 10 ms: decode 60%, Resize 30%, unexplained 10%; in its batch: collate 0.10 ms"
    )
    assert parts_line(account(ItemCost(0.01, 0, 0, 1.0, 9), {}, {})) == ""
