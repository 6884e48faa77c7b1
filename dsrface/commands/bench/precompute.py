"""`dsrface bench precompute`: the whole pipeline, in every backend, against the DSR alone in fp32."""

from __future__ import annotations

import itertools
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dsrface.commands.bench.measure import Route, Row, interleave
from dsrface.commands.bench.synthetic import draw_triple, make_split
from dsrface.commands.shared.outputs.backends import PLAIN, Running, build, share_within_a_level
from dsrface.commands.shared.outputs.context import READING_THREADS, measure_batch_size
from dsrface.commands.shared.outputs.pipeline import Reading, Upscaler, write_column
from dsrface.config.bench import BenchConfig
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.sources import load_preset
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.augment import to_image01
from dsrface.data.cache.build import PackedColumn, Wanted
from dsrface.data.cache.table import hash_inputs
from dsrface.data.cache.writer import ColumnWriter
from dsrface.data.decode import read_image, write_png
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.layout import FaceSplit
from dsrface.data.outputs.rows import RowDataset
from dsrface.data.stored import decide
from dsrface.data.synthetic.drawing import draw_face
from dsrface.engine.batch_size import choose_batch_size
from dsrface.engine.inference import super_resolve
from dsrface.errors import MachineError
from dsrface.events import Emit, Note
from dsrface.metrics.image_quality import psnr_db
from dsrface.models.dsr import build_dsr
from dsrface.models.loaded import LoadedModel
from dsrface.models.weights import load_dsr
from dsrface.runtime.devices import Device, choose_device
from dsrface.types import HIGH_SIZE_PX, VLR_SIZES_PX, Preprocess

BENCH = "precompute"
BARE = "DSR alone, one batch after the other"
_FACES = 64  # half to calibrate int8, half to measure pixels on


def run_precompute(config: BenchConfig, folder: Path, *, emit: Emit) -> list[Row]:
    """Measure the pipeline in every backend, file reading, hashing and fsync included, against the bare loop.

    Args:
        config: Of the bench.
        folder: Empty; the data is made here.
        emit: Takes notes and progress.
    """
    device = choose_device(config.device)
    loaded, size_px = dsr_for_bench(config, device)
    split = make_split(folder, config.dsr_images, vlr_size=size_px)
    emit(Note(f"making {config.dsr_images} VLR images"))
    for name in split.names:
        write_png(split.low_dir(size_px) / name, draw_triple(name, seed=0, vlr_size=size_px)[1])
    faces = _drawn_faces(size_px)
    plain = Running(PLAIN, loaded, device)
    running = [plain]
    for name in config.backends if device.kind == "cpu" else ():
        if name != PLAIN:
            emit(Note(f"making the backend {name}"))
            try:
                running.append(build(name, loaded, device, lambda: faces.low[: _FACES // 2]))
            except MachineError as error:
                emit(Note(f"{name} is left out: {error.message}"))
    routes = {BARE: _bare(plain, split, emit)}
    routes |= {f"precompute pipeline, {item.name}": _pipeline(item, split, folder, emit) for item in running}
    rows = interleave(
        BENCH,
        routes,
        ceiling=BARE,
        unit="images/s",
        rounds=config.rounds,
        seconds=math.nan,  # each route takes as long as all the images take
        emit=emit,
    )
    if config.weights is None:  # an untrained network is bicubic: it has no detail to change
        return rows
    return rows + [row for item in running[1:] for row in _pixels(plain, item, faces)]


@dataclass(frozen=True)
class _Faces:
    """Drawn faces, uint8 [N, 112, 112, 3], and their VLR twins."""

    high: Tensor
    low: Tensor


def _drawn_faces(size_px: int) -> _Faces:
    kind = Degradation(kind="classic", size_px=size_px)
    high = [draw_face(person, 0) for person in range(_FACES)]
    low = [degrade(face, kind, rng=np.random.default_rng(0)) for face in high]
    return _Faces(torch.from_numpy(np.stack(high)), torch.from_numpy(np.stack(low)))


def _bare(running: Running, split: FaceSplit, emit: Emit) -> Route:
    """Return the rate of the DSR on images in memory, batch after batch, all cores on each."""
    (size_px,) = split.low_folders
    images = torch.from_numpy(np.stack([read_image(split.low_dir(size_px) / name) for name in split.names]))

    def infer(batch: Tensor) -> Tensor:
        low = batch.to(running.device.torch_name)
        return super_resolve(running.loaded.model, low, device=running.device).cpu()

    choice = choose_batch_size(
        lambda number: infer(images[:1].expand(number, -1, -1, -1).contiguous()), device=running.device
    )
    emit(Note(f"batch size of the bare loop: {choice.reason}"))

    def measured(_: float) -> float:
        begin = time.perf_counter()
        for batch in torch.split(images, choice.batch_size):
            infer(batch)
        return len(images) / (time.perf_counter() - begin)

    return measured


def _pipeline(running: Running, split: FaceSplit, folder: Path, emit: Emit) -> Route:
    """Return the rate of reading, inference and writing to a cache."""
    (size_px,) = split.low_folders
    low_dir = split.low_dir(size_px)
    with Upscaler(running.loaded.model, running.device) as upscale:
        choice = measure_batch_size(upscale, torch.zeros((1, size_px, size_px, 3), dtype=torch.uint8))
    emit(Note(f"batch size of the pipeline, {running.name}: {choice.reason}"))
    numbers = itertools.count()

    def measured(_: float) -> float:
        target = folder / f"outputs-{running.name}-{next(numbers)}"
        inputs = hash_inputs(low_dir, split.names)
        wanted = Wanted("outputs", (HIGH_SIZE_PX, HIGH_SIZE_PX, 3), ((split.name, split.names),), inputs)
        decision = decide(PackedColumn(target, wanted), force=False)
        writer = ColumnWriter.open(target, decision.plan)
        dataset = RowDataset(low_dir, split.names, size_px=size_px)
        reading = Reading(dataset, choice.batch_size, 0, READING_THREADS)
        with Upscaler(running.loaded.model, running.device) as upscale:
            seconds = write_column(writer, writer.missing(), reading, upscale, progress=lambda _: None)
        writer.finish()
        shutil.rmtree(target)
        return len(split.names) / seconds

    return measured


def _pixels(plain: Running, running: Running, faces: _Faces) -> list[Row]:
    """Return how near a backend's pixels are to fp32's, and its cost, on faces that did not calibrate it."""
    low, high = faces.low[_FACES // 2 :], to_image01(faces.high[_FACES // 2 :])
    before, after = (
        float(psnr_db(to_image01(super_resolve(item.loaded.model, low, device=item.device)), high).mean())
        for item in (plain, running)
    )
    near = 100 * share_within_a_level(plain, running, low)
    return [
        Row(BENCH, f"{running.name}: values within a level of fp32", "%", near, 0.0),
        Row(BENCH, f"{running.name}: PSNR on drawn faces, less fp32's", "dB", after - before, 0.0),
    ]


def dsr_for_bench(config: BenchConfig, device: Device) -> tuple[LoadedModel, int]:
    """Return the DSR to measure with and the size it takes; by default an untrained one."""
    if config.weights is not None:
        loaded = load_dsr(config.weights, device=device.torch_name)
        return loaded, loaded.vlr_size or VLR_SIZES_PX[0]
    torch.manual_seed(0)
    shape = DsrConfig(**load_preset(TrainDsrConfig, config.preset)["model"], vlr_size=16)
    model = build_dsr(shape).eval().to(device.torch_name).to(memory_format=torch.channels_last)
    facts = shape.model_dump()
    return LoadedModel(model, "dsr", facts, Preprocess(16), "", Path(config.preset), {}), 16
