"""`dsrface bench loader`: the reader against the ceiling of this machine's memory and PNG folders."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch

from dsrface.commands.bench.measure import Route, Row, interleave, rate, row
from dsrface.commands.bench.synthetic import BenchData, make_data, make_split, simulate
from dsrface.config.bench import BenchConfig
from dsrface.data.cache.column import Column
from dsrface.data.cache.order import WindowOrder
from dsrface.data.cache.reader import PackedReader
from dsrface.data.datasets import PairDataset, Sample
from dsrface.data.loaders import collate, make_loader
from dsrface.data.outputs.opening import make_order
from dsrface.data.samplers import BatchSampler, EpochOrder
from dsrface.events import Emit, Note
from dsrface.types import Batch

BENCH = "loader"
_PNG_IMAGES = 1024
_SIMULATED_BATCH = 64


def run_loader(config: BenchConfig, folder: Path, *, emit: Emit) -> list[Row]:
    """Measure all routes of `bench loader`.

    Args:
        config: Of the bench.
        folder: Empty; the data is made here.
        emit: Takes notes and progress.
    """
    emit(Note(f"making {config.images} pairs"))
    data = make_data(folder / "data", num_images=config.images, num_png=_PNG_IMAGES)
    rows = _warm_rows(data, config, emit)
    rows += _first_batch(data, config)
    gc.collect()  # pages that are still mapped cannot be dropped from the page cache
    rows += _cold(data, config, emit)
    if config.simulated_images:
        emit(Note(f"simulating {config.simulated_images:,} images"))
        # In a process of its own, whose memory holds nothing else.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(simulated_rows, folder / "simulated", config.simulated_images).result()
    return rows


def _warm_rows(data: BenchData, config: BenchConfig, emit: Emit) -> list[Row]:
    with contextlib.ExitStack() as stack:
        # A gather is bound by memory: a second thread brings nothing, and waking it costs more than a batch.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        reader = _reader(data, config.batch_size, kind="mapped")
        stack.callback(reader.close)
        _warm(reader)
        routes = _routes(data, reader, config, stack)
        rows = interleave(
            BENCH,
            routes,
            ceiling=CEILING,
            unit="pairs/s",
            rounds=config.rounds,
            seconds=config.seconds,
            emit=emit,
        )
        best_png = max(found.median for found in rows if found.name.startswith(PNG))
        [ring] = [found.median for found in rows if found.name == RING]
        rows.append(
            row(BENCH, "that ring over the PNG folder with its best workers", "times", [ring / best_png])
        )
        rows += _beside_a_step(reader, config)
        return rows + _page_faults(reader)


RING = "packed reader, memory-mapped, through the ring"
PNG = "PNG folder, Pillow"
CEILING = "in-RAM index_select into a reused buffer"


def _reader(
    data: BenchData, batch_size: int, *, kind: str, seed: int = 0, order: EpochOrder | None = None
) -> PackedReader:
    sampler = BatchSampler(order or make_order(data.split, data.outputs, seed=seed), batch_size=batch_size)
    return PackedReader(data.split, data.outputs, sampler=sampler, kind=kind)  # type: ignore[arg-type]


def _warm(reader: PackedReader) -> None:
    """Read everything once, as a first epoch does: pages are mapped and checksums compared."""
    order = np.arange(len(reader.split), dtype=np.int64)
    for part in np.array_split(order, -(-len(order) // reader.sampler.batch_size)):
        reader.gather(part)


def _routes(
    data: BenchData, reader: PackedReader, config: BenchConfig, stack: contextlib.ExitStack
) -> dict[str, Route]:
    size, total = config.batch_size, len(data.split)
    columns = [
        torch.cat([torch.from_numpy(np.fromfile(extent.path, np.uint8)) for extent in column.extents])
        for column in reader.columns
    ]
    images = [column.view(total, *reader.columns[0].manifest.shape) for column in columns]
    buffers = [torch.zeros((size, *images[0].shape[1:]), dtype=torch.uint8) for _ in images]
    labels, label_buffer = data.split.labels, torch.zeros(size, dtype=torch.int64)
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return rng.integers(0, total, size)

    def ceiling() -> int:
        index = torch.from_numpy(draw())
        for image, buffer in zip(images, buffers, strict=True):
            torch.index_select(image, 0, index, out=buffer)
        torch.index_select(labels, 0, index, out=label_buffer)
        return size

    def gather() -> int:
        reader.gather(draw())
        return size

    ring = stack.enter_context(contextlib.closing(endless(reader.epoch)))
    blocks = stack.enter_context(_reader(data, size, kind="blocks"))
    _warm(blocks)
    blocks_ring = stack.enter_context(contextlib.closing(endless(blocks.epoch)))
    memmaps = [
        [
            np.memmap(extent.path, np.uint8, "r").reshape(-1, *reader.columns[0].manifest.shape)
            for extent in column.extents
        ]
        for column in reader.columns
    ]

    def per_item() -> int:
        collate([_item(memmaps, row, data) for row in draw().tolist()])
        return size

    routes: dict[str, Route] = {
        CEILING: lambda seconds: rate(ceiling, seconds),
        "packed reader, memory-mapped, gather in the same thread": lambda seconds: rate(gather, seconds),
        RING: lambda seconds: rate(lambda: len(next(ring)), seconds),
        "packed reader, blocks, through the ring": lambda seconds: rate(
            lambda: len(next(blocks_ring)), seconds
        ),
        "memory-mapped .npy-like file, one image per __getitem__": lambda seconds: rate(per_item, seconds),
    }
    for num_workers in (0, 2):
        routes[f"{PNG}, {num_workers} workers"] = _png_route(data, config, num_workers)
    return routes


def endless(epoch: Callable[[int], Iterator[Batch]]) -> Generator[Batch, None, None]:
    """Yield the batches of one epoch after another."""
    number = 0
    while True:
        with contextlib.closing(epoch(number)) as batches:  # type: ignore[type-var]
            yield from batches
        number += 1


def _item(memmaps: list[list[np.ndarray]], row: int, data: BenchData) -> Sample:
    shard, place = divmod(row, len(memmaps[0][0]))
    inputs, high = (torch.from_numpy(np.array(column[shard][place])) for column in memmaps)
    return Sample(inputs, high, int(data.split.labels[row]), row)


def _png_route(data: BenchData, config: BenchConfig, num_workers: int) -> Route:
    """Return a route over PNG files; its workers live only while it is measured, so they disturb no other."""

    def run(seconds: float) -> float:
        sampler = BatchSampler(EpochOrder(len(data.png_split), 0), batch_size=min(config.batch_size, 64))
        dataset = PairDataset(data.png_split, inputs=data.png_outputs)
        with make_loader(dataset, sampler, num_workers=num_workers) as loader:
            batches = endless(loader.epoch)
            # The batches that workers prepared while the first was awaited are not counted.
            for _ in range(2 * num_workers):
                next(batches)
            return rate(lambda: len(next(batches)), max(seconds, 1.0))

    return run


def _beside_a_step(reader: PackedReader, config: BenchConfig) -> list[Row]:
    """Measure the reader next to a step that waits `step_ms` outside the interpreter lock, as for a GPU."""
    step_s, size = config.step_ms / 1000, config.batch_size

    def alone() -> int:
        time.sleep(step_s)
        return size

    with contextlib.closing(endless(reader.epoch)) as ring:

        def fed() -> int:
            count = len(next(ring))
            time.sleep(step_s)
            return count

        names = (f"a {config.step_ms:g} ms step alone", f"packed reader next to a {config.step_ms:g} ms step")
        routes: dict[str, Route] = {
            names[0]: lambda seconds: rate(alone, seconds),
            names[1]: lambda seconds: rate(fed, seconds),
        }
        return interleave(
            BENCH, routes, ceiling=names[0], unit="pairs/s", rounds=config.rounds, seconds=config.seconds
        )


def _page_faults(reader: PackedReader) -> list[Row]:
    """Count minor page faults a batch in the steady state, where the system counts them."""
    try:
        import resource
    except ImportError:
        return []
    counts = []
    with contextlib.closing(endless(reader.epoch)) as ring:
        for _ in range(8):
            next(ring)
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(32):
                next(ring)
            counts.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 32)
    return [row(BENCH, "page faults a batch, through the ring", "faults", counts)]


def _first_batch(data: BenchData, config: BenchConfig) -> list[Row]:
    opened, first = [], []
    for number in range(config.rounds):
        begin = time.perf_counter()
        reader = _reader(data, config.batch_size, kind="mapped", seed=number)
        opened.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        batches = reader.epoch(0)
        next(batches)
        first.append(time.perf_counter() - begin)
        batches.close()  # type: ignore[attr-defined]
        reader.close()
    return [
        row(BENCH, "time to open the cache", "s", opened),
        row(BENCH, "time from opening to the first batch", "s", first),
    ]


def _cold(data: BenchData, config: BenchConfig, emit: Emit) -> list[Row]:
    """Compare blocks and a plain memory map while no page of the shards is in memory (Linux)."""
    if not hasattr(os, "posix_fadvise") or not Path("/proc/self/io").exists():
        emit(Note("no cold measurement: this system cannot drop a file from its page cache"))
        return []
    rates: dict[str, list[float]] = {"plain": [], "blocks": []}
    excess: dict[str, list[float]] = {"plain": [], "blocks": []}
    for number in range(max(2, config.rounds // 2)):
        for name in ("plain", "blocks"):
            _drop_pages(data)
            speed, amplification = _cold_pass(data, config, name, epoch=number)
            rates[name].append(speed)
            excess[name].append(amplification)
    mapped, blocks = "cold: plain memory map", "cold: packed reader, blocks"
    return [
        row(BENCH, mapped, "pairs/s", rates["plain"], ceiling=rates["blocks"]),
        row(BENCH, blocks, "pairs/s", rates["blocks"], ceiling=rates["blocks"]),
        row(
            BENCH,
            f"{blocks}, over the plain memory map",
            "times",
            [b / p for b, p in zip(rates["blocks"], rates["plain"], strict=True)],
        ),
        row(BENCH, f"{mapped}, bytes read over bytes used", "times", excess["plain"]),
        row(BENCH, f"{blocks}, bytes read over bytes used", "times", excess["blocks"]),
    ]


def _cold_pass(data: BenchData, config: BenchConfig, name: str, *, epoch: int) -> tuple[float, float]:
    """Return pairs per second and bytes read over bytes delivered.

    The plain map is followed for an eighth of an epoch: that is how it behaves where the data does not fit in
    memory. Later in the epoch it would find what it read too much of before.
    """
    before = _bytes_from_disk()
    done = 0
    begin = time.perf_counter()
    if name == "plain":
        reader = _reader(data, config.batch_size, kind="mapped", order=EpochOrder(len(data.split), 0))
        for indices in reader.sampler.batches(epoch):
            done += len(reader.gather(indices))
            if done >= len(data.split) // 8:
                break
    else:
        reader = _reader(data, config.batch_size, kind="blocks")
        for batch in reader.epoch(epoch):
            done += len(batch)
    seconds = time.perf_counter() - begin
    used = done * sum(column.record_bytes for column in reader.columns)
    reader.close()
    return done / seconds, (_bytes_from_disk() - before) / used


def _drop_pages(data: BenchData) -> None:
    for folder in (data.outputs, data.split.hr_column_dir):
        for path in folder.glob("*.u8"):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _bytes_from_disk() -> int:
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return 0


def simulated_rows(folder: Path, num_images: int, num_batches: int = 1000) -> list[Row]:
    """Read a sparse cache of any size: time to open, time to the first batch, memory."""
    torch.set_num_threads(1)
    split = make_split(folder, num_images)
    outputs = split.outputs_dir(16)
    for path, column in ((outputs, "outputs"), (split.hr_column_dir, "hr")):
        simulate(path, split, column=column)
    process = psutil.Process()
    count = f"{num_images:,} simulated images"
    begin = time.perf_counter()
    order = WindowOrder(split, Column(outputs), seed=0)
    sampler = BatchSampler(order, batch_size=_SIMULATED_BATCH)
    reader = PackedReader(split, outputs, sampler=sampler, kind="blocks")
    opened = time.perf_counter() - begin
    begin = time.perf_counter()
    batches = endless(reader.epoch)
    next(batches)
    first = time.perf_counter() - begin
    for _ in range(num_batches // 10):
        next(batches)
    settled = _private_bytes(process)
    for _ in range(num_batches - num_batches // 10):
        next(batches)
    grown = _private_bytes(process) - settled
    batches.close()
    reader.close()
    return [
        row(BENCH, f"{count}: time to open", "s", [opened]),
        row(BENCH, f"{count}: time to the first batch", "s", [first]),
        row(BENCH, f"{count}: private memory", "MB", [settled / 1e6]),
        row(BENCH, f"{count}: growth over {num_batches} random batches", "MB", [grown / 1e6]),
    ]


def _private_bytes(process: psutil.Process) -> int:
    """Return the memory that the system cannot take back; on Linux, without clean pages of files."""
    gc.collect()
    maps = process.memory_maps() if psutil.LINUX else []
    return sum(item.private_dirty for item in maps) or int(process.memory_full_info().uss)
