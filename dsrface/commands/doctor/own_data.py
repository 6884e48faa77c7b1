"""The data sets that train-dsr, precompute and finetune build, as a target for the doctor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from dsrface.commands.shared.datasets import dsr_pairs, recogniser_pairs
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data import loaders
from dsrface.data.datasets import Sample
from dsrface.data.layout import FaceData, FaceSplit, open_data
from dsrface.data.outputs.given import is_cache
from dsrface.data.outputs.rows import RowDataset
from dsrface.errors import DataError
from dsrface.runtime.command_line import quoted
from dsrface.types import HIGH_SIZE_PX, HIGH_SIZES_PX

_PRECOMPUTE_BATCH = 64  # its loader's batch; the forward pass has a size of its own


def build(data: str, purpose: str, vlr_size: int | None = None) -> tuple[Dataset[Sample], dict[str, Any]]:
    """Return the data set that a command would read, and the options of its loader.

    Args:
        data: Folder of the data set.
        purpose: `train-dsr`, `precompute` or `finetune`.
        vlr_size: Side of the VLR images in pixels; None for the smallest.

    Raises:
        DataError: no data set, or none of that size.
    """
    opened = open_data(Path(data), high_sizes=HIGH_SIZES_PX if purpose == "train-dsr" else (HIGH_SIZE_PX,))
    train = opened.split("train")
    size = vlr_size or min(train.low_folders, default=0)
    if not size:
        raise DataError(
            "The data set has no low-resolution faces.",
            id="no-such-vlr-size",
            where=opened.root,
            hint="Run `dsrface prepare` with --vlr-sizes.",
        )
    if purpose == "train-dsr":
        opened.require_twins()
    elif opened.is_native:
        train = train.at(int(size))
    dataset, batch_size, flags = _MAKERS[purpose](opened, train, int(size))
    options = {
        "collate_fn": loaders.collate,
        "worker_init_fn": loaders.start_worker,
        "batch_size": batch_size,
        "flags": flags,
    }
    return dataset, options


def _train_dsr(data: FaceData, train: FaceSplit, vlr_size: int) -> tuple[Dataset[Sample], int, str]:
    config = TrainDsrConfig(data=data.root, vlr_size=vlr_size)
    return dsr_pairs(config, data, train), config.batch_size, f"--vlr-size {vlr_size}"


def _finetune(data: FaceData, train: FaceSplit, vlr_size: int) -> tuple[Dataset[Sample], int, str]:
    config = FinetuneConfig(data=data.root, vlr_size=vlr_size, no_dsr=True)
    mode = "--no-dsr"
    outputs = train.outputs_dir(vlr_size)
    if outputs.is_dir() and not is_cache(outputs):
        config = FinetuneConfig(data=data.root, vlr_size=vlr_size, dsr_outputs=outputs)
        mode = f"--dsr-outputs {quoted(os.path.relpath(outputs))}"
    dataset = recogniser_pairs(config, data, train, is_training=True)
    return dataset, config.batch_size, f"--vlr-size {vlr_size} {mode}"


def _precompute(data: FaceData, train: FaceSplit, vlr_size: int) -> tuple[Dataset[Sample], int, str]:
    del data
    dataset = RowDataset(train.low_dir(vlr_size), train.names, size_px=vlr_size)
    return dataset, _PRECOMPUTE_BATCH, "--weights RUN"  # they say which size


_MAKERS = {"train-dsr": _train_dsr, "finetune": _finetune, "precompute": _precompute}
