"""`dsrface bench precompute`: the whole pipeline against the DSR alone on images already in memory."""

from __future__ import annotations

import itertools
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dsrface.commands.bench.measure import Note, Row, interleave
from dsrface.commands.bench.synthetic import draw_triple, make_split
from dsrface.commands.shared.outputs.context import READING_THREADS, measure_batch_size
from dsrface.commands.shared.outputs.pipeline import Reading, Upscaler, write_column
from dsrface.config.bench import BenchConfig
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.sources import load_preset
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.cache.build import PackedColumn, Wanted
from dsrface.data.cache.table import hash_inputs
from dsrface.data.cache.writer import ColumnWriter
from dsrface.data.decode import read_image, write_png
from dsrface.data.outputs.rows import RowDataset
from dsrface.data.stored import decide
from dsrface.engine.batch_size import choose_batch_size
from dsrface.engine.inference import super_resolve
from dsrface.models.dsr import build_dsr
from dsrface.models.weights import load_dsr
from dsrface.runtime.devices import Device, choose_device
from dsrface.types import HIGH_SIZE_PX, VLR_SIZES_PX

BENCH = "precompute"
BARE = "DSR alone, one batch after the other"


def run_precompute(config: BenchConfig, folder: Path, *, note: Note) -> list[Row]:
    """Measure the pipeline, file reading, hashing and fsync included, against bare inference.

    Args:
        config: Of the bench.
        folder: Empty; the data is made here.
        note: Receives what is being done.
    """
    device = choose_device(config.device)
    model, size_px = dsr_for_bench(config, device)
    split = make_split(folder, config.dsr_images, vlr_size=size_px)
    note(f"making {config.dsr_images} VLR images")
    low_dir = split.low_dir(size_px)
    for name in split.names:
        write_png(low_dir / name, draw_triple(name, seed=0, vlr_size=size_px)[1])
    images = torch.from_numpy(np.stack([read_image(low_dir / name) for name in split.names]))

    def infer(batch: Tensor) -> Tensor:
        return super_resolve(model, batch.to(device.torch_name), device=device).cpu()

    bare_choice = choose_batch_size(
        lambda number: infer(images[:1].expand(number, -1, -1, -1).contiguous()), device=device
    )
    note(f"batch size of the bare loop: {bare_choice.reason}")
    with Upscaler(model, device) as upscale:
        choice = measure_batch_size(upscale, images[:1])
    note(f"batch size of the pipeline: {choice.reason}")

    def bare(_: float) -> float:
        begin = time.perf_counter()
        for batch in torch.split(images, bare_choice.batch_size):
            infer(batch)
        return len(images) / (time.perf_counter() - begin)

    numbers = itertools.count()

    def pipeline(_: float) -> float:
        target = folder / f"outputs-{next(numbers)}"
        inputs = hash_inputs(low_dir, split.names)
        wanted = Wanted("outputs", (HIGH_SIZE_PX, HIGH_SIZE_PX, 3), ((split.name, split.names),), inputs)
        decision = decide(PackedColumn(target, wanted), force=False)
        writer = ColumnWriter.open(target, decision.plan)
        dataset = RowDataset(low_dir, split.names, size_px=size_px)
        reading = Reading(dataset, choice.batch_size, 0, READING_THREADS)
        with Upscaler(model, device) as upscale:
            seconds = write_column(
                writer,
                writer.missing(),
                reading,
                upscale,
                progress=lambda _: None,
            )
        writer.finish()
        shutil.rmtree(target)
        return len(images) / seconds

    return interleave(
        BENCH,
        {BARE: bare, "precompute pipeline to a cache": pipeline},
        ceiling=BARE,
        unit="images/s",
        rounds=config.rounds,
        seconds=math.nan,  # each route takes as long as all the images take
        note=note,
    )


def dsr_for_bench(config: BenchConfig, device: Device) -> tuple[nn.Module, int]:
    """Return the DSR to measure with and the size it takes; by default an untrained one."""
    if config.weights is not None:
        loaded = load_dsr(config.weights, device=device.torch_name)
        return loaded.model, loaded.vlr_size or VLR_SIZES_PX[0]
    torch.manual_seed(0)
    shape = load_preset(TrainDsrConfig, config.preset)["model"]
    model = build_dsr(DsrConfig(**shape, vlr_size=16)).eval()
    return model.to(device.torch_name).to(memory_format=torch.channels_last), 16
