"""Write one column of a cache, or a PNG tree: reading, inference and writing at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dsrface.data.cache.feed import Feed
from dsrface.data.cache.manifest import ShardPlan
from dsrface.data.cache.writer import ColumnWriter
from dsrface.data.outputs.png_tree import write_pngs
from dsrface.data.outputs.rows import PlanSampler, RowDataset, read_steps
from dsrface.engine.inference import super_resolve
from dsrface.runtime.devices import Device, recorded_event
from dsrface.types import to_device

Images = NDArray[np.uint8]
Get = Callable[[], Images]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Args:
        dataset: What to read.
        batch_size: Images per batch.
        num_workers: Worker processes; 0 takes threads.
        num_threads: How many of those.
    """

    dataset: RowDataset
    batch_size: int
    num_workers: int
    num_threads: int

    def batches(self, shards: Sequence[ShardPlan]) -> tuple[PlanSampler, Iterator[Tensor]]:
        """Return the sampler and the batches of some shards, read ahead."""
        sampler = PlanSampler(shards, batch_size=self.batch_size)
        return sampler, read_steps(
            self.dataset, sampler, num_workers=self.num_workers, num_threads=self.num_threads
        )


class Upscaler:
    """A DSR as a function on host batches that returns before its result is there.

    On CUDA device and host work in parallel. On a CPU each of torch's threads takes a batch of its own: those
    that share a batch wait for one another after every layer, and for whatever else needs their cores.

    Args:
        model: The network, on the device.
        device: Where it runs.
    """

    def __init__(self, model: nn.Module, device: Device) -> None:
        self.model = model
        self.device = device
        self.at_once = torch.get_num_threads() if device.kind == "cpu" else 1
        self._threads = ThreadPoolExecutor(self.at_once, "dsrface-dsr", torch.set_num_threads, (1,))

    def __call__(self, low: Tensor) -> Get:
        """Start on uint8 [B, s, s, 3]; the result, called, waits and returns uint8 [B, 112, 112, 3]."""
        if self.device.kind == "cuda":
            return self._on_cuda(low)
        return self._threads.submit(self._in_this_thread, low).result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _in_this_thread(self, low: Tensor) -> Images:
        high = super_resolve(self.model, low.to(self.device.torch_name), device=self.device)
        images: Images = high.cpu().numpy()
        return images

    def _on_cuda(self, low: Tensor) -> Get:
        source = to_device(low.pin_memory(), self.device.torch_name)
        high = super_resolve(self.model, source, device=self.device)
        host = torch.empty(high.shape, dtype=torch.uint8, pin_memory=True)
        host.copy_(high, non_blocking=True)
        event = recorded_event(self.device.torch_name)

        def get() -> Images:
            with torch.cuda.device(self.device.torch_name):  # each thread has a current device of its own
                event.synchronize()
            images: Images = host.numpy()
            return images

        return get


def _as_they_are(images: Tensor) -> Get:
    """Pass images through, for the HR column."""
    return images.numpy


def write_column(
    writer: ColumnWriter,
    shards: Sequence[ShardPlan],
    reading: Reading,
    upscale: Upscaler | None,
    *,
    progress: Callable[[int], None],
) -> float:
    """Write shards; return the seconds it took.

    Args:
        writer: Of the column.
        shards: Those to write, in order.
        reading: How their inputs are read.
        upscale: Turns inputs into records; None for the HR column, whose records they are.
        progress: Receives the number of images done.
    """

    def consume(items: Iterator[Get]) -> None:
        for plan in shards:
            with writer.shard(plan) as shard:
                while shard.count < len(plan.rows):
                    shard.append(next(items)())
        next(items, None)  # the end, so that an early one is not taken for it

    _, batches = reading.batches(shards)
    if upscale is None:
        return _run(batches, _as_they_are, consume, progress, at_once=1)
    return _run(batches, upscale, consume, progress, at_once=upscale.at_once)


def write_tree(
    folder: Path,
    plan_names: Sequence[str],
    todo: Sequence[int],
    reading: Reading,
    upscale: Upscaler,
    *,
    num_threads: int,
    progress: Callable[[int], None],
) -> float:
    """Write the PNG files of some images; return the seconds it took.

    Args:
        folder: Where they go.
        plan_names: Names of all images.
        todo: Positions of those to write.
        reading: How the inputs are read.
        upscale: Turns inputs into images.
        num_threads: Threads that encode and write.
        progress: Receives the number of images done.
    """
    rows = np.asarray(todo, np.int64)
    sampler, batches = reading.batches([ShardPlan(0, 0, 0, rows)])
    names = ([plan_names[row] for row in step.tolist()] for _, step in sampler.steps())
    return _run(
        zip(names, batches, strict=True),
        lambda item: (item[0], upscale(item[1])),
        lambda items: write_pngs(folder, items, num_threads=num_threads),
        progress,
        at_once=upscale.at_once,
        size=lambda item: len(item[0]),
    )


def _run(
    source: Iterator[T],
    process: Callable[[T], U],
    consume: Callable[[Iterator[U]], None],
    progress: Callable[[int], None],
    *,
    at_once: int,
    size: Callable[[T], int] = len,  # type: ignore[assignment]
) -> float:
    begin = time.perf_counter()
    done = 0
    # Room for every batch that is being worked on and for as many that wait.
    with Feed(consume, depth=2 + 2 * at_once) as feed:
        for item in source:
            feed.put(process(item))
            done += size(item)
            progress(done)
        feed.finish()
    return time.perf_counter() - begin
