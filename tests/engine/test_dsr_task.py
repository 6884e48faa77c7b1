"""DsrTask on batches of many sizes: every face reaches the network at its own size, alone."""

from __future__ import annotations

import pytest
import torch

from dsrface.config.dsr_model import DsrConfig
from dsrface.config.dsr_networks import AnySizeTable
from dsrface.config.train_dsr import DsrLossConfig
from dsrface.data.datasets import Sample
from dsrface.data.loaders import collate
from dsrface.data.names import PackedStrings
from dsrface.engine.dsr_task import DsrTask
from dsrface.engine.inference import Images
from dsrface.engine.microbatches import split_microbatches, to_step_device
from dsrface.models.dsr import build_dsr
from dsrface.runtime.devices import Device
from dsrface.types import Batch

SIZES_PX = (8, 8, 13, 48, 48, 24)


def face(size_px: int, index: int) -> Sample:
    generator = torch.Generator().manual_seed(index)
    low, high = (
        torch.randint(256, (side, side, 3), dtype=torch.uint8, generator=generator) for side in (size_px, 112)
    )
    return Sample(low, high, 0, index)


def batch_of(samples: list[Sample]) -> Batch:
    batch = collate(list(samples))
    assert isinstance(batch, Batch)
    return batch


@pytest.fixture
def task() -> DsrTask:
    torch.manual_seed(0)
    shape = DsrConfig(network=AnySizeTable(channels=4, blocks=2, mixer_rank=2), vlr_size=16, high_size=112)
    model = build_dsr(shape)
    torch.nn.init.normal_(model.tail.weight, std=0.1)
    val = batch_of([face(16, 0)])
    return DsrTask(
        model,
        config=shape,
        losses=DsrLossConfig(),
        identity=None,
        vgg=None,
        images=Images(val.inputs, val.high, val.labels, val.indices),
        names=PackedStrings.from_list([f"{index}.png" for index in range(len(SIZES_PX))]),
        device=Device("cpu", "cpu", "fp32", "test"),
    )


@pytest.mark.parametrize("num_parts", [1, 4])
def test_faces_of_many_sizes_count_as_if_each_came_alone(task: DsrTask, num_parts: int) -> None:
    samples = [face(size_px, index) for index, size_px in enumerate(SIZES_PX)]
    alone = torch.stack([task(batch_of([sample]))[0] for sample in samples])
    parts = split_microbatches(batch_of(samples), num_parts)
    assert sum(len(part) for part in parts) == len(samples)
    losses = [task(to_step_device(part, torch.device("cpu")))[0] * len(part) for part in parts]
    torch.testing.assert_close(sum(losses) / len(samples), alone.mean())


def test_a_batch_of_one_size_is_handed_over_as_it_is() -> None:
    batch = batch_of([face(16, 0), face(16, 1)])
    assert batch.sizes_px is None
    assert batch.inputs.shape == (2, 16, 16, 3)


def test_the_first_batch_is_shown_with_every_face_at_its_size(task: DsrTask, tmp_path) -> None:
    batch = batch_of([face(size_px, index) for index, size_px in enumerate(SIZES_PX)])
    assert batch.inputs.shape == (6, 48, 48, 3)
    task.save_first_batch(batch, tmp_path / "first.png")
    assert (tmp_path / "first.png").stat().st_size > 0
