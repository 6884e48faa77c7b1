"""Batches out of a packed cache at the speed of a memory copy, without worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsrface.data.cache import backends
from dsrface.data.cache.backends import Backend, Choice, Kind, Resident
from dsrface.data.cache.blocks import BlockColumn
from dsrface.data.cache.column import BLOCK_RECORDS, Column
from dsrface.data.cache.order import WINDOW_BLOCKS, WindowOrder
from dsrface.data.cache.ring import Ring
from dsrface.data.layout import FaceSplit
from dsrface.data.samplers import RankedSampler
from dsrface.data.stored import differences, stale
from dsrface.types import Batch, to_device


class PackedReader:
    """Delivers batches of (DSR output, HR twin, label) in the order of a sampler.

    A batch on the CPU is in reused memory and is valid until the next one is asked for; copy what must
    stay. On CUDA, move it with `Batch.to` on the current stream. Every record is compared with its checksum
    the first time it is delivered.

    Args:
        split: Names and labels.
        outputs: Cache folder of the DSR outputs.
        sampler: Which images make up which batch, on this rank.
        high: Cache folder of the HR column; the split's own when None.
        device: Where the batches will be used.
        resident: Keep the cache on the device: when it fits, always, never.
        kind: A back end by name; None chooses.
        is_checking: False skips the checksums, for measurements.

    Raises:
        RunError: a cache is missing, unfinished, damaged, or lacks images of the split.
    """

    def __init__(
        self,
        split: FaceSplit,
        outputs: Path,
        *,
        sampler: RankedSampler,
        high: Path | None = None,
        device: str = "cpu",
        resident: Resident = "auto",
        kind: Kind | None = None,
        is_checking: bool = True,
    ) -> None:
        self.split = split
        self.sampler = sampler
        self.columns = (Column(outputs), Column(high or split.hr_column_dir))
        self.num_variants = self.columns[0].manifest.num_variants
        if self.columns[1].manifest.num_variants < self.num_variants:
            raise stale(
                differences(
                    {"num_variants": self.columns[1].manifest.num_variants},
                    {"num_variants": self.num_variants},
                ),
                self.columns[1].folder,
            )
        self._load_slots(0)
        self.choice = (
            Choice(kind, "asked for")
            if kind
            else backends.choose(self.columns, device=device, resident=resident)
        )
        self.device = device
        self._is_checking = is_checking
        self._rows = tuple(column.rows_of(split) for column in self.columns)
        order = getattr(sampler, "order", None)
        self._lookahead = WINDOW_BLOCKS * BLOCK_RECORDS if isinstance(order, WindowOrder) else 0
        self._backends = tuple(self._open(column) for column in self.columns)
        self._labels = split.labels.to(device) if self.choice.kind == "resident" else split.labels
        per_rank = max(1, -(-sampler.batch_size // sampler.world_size))
        shape = self.columns[0].manifest.shape
        self._ring = Ring(batch_size=per_rank, shape=shape, device=device)

    @property
    def num_batches(self) -> int:
        """Batches an epoch on this rank."""
        return self.sampler.num_batches

    def __len__(self) -> int:
        return self.num_batches

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: 0-based; variant `epoch % num_variants` of each image is shown.
            start_batch: First batch to yield.

        Raises:
            RunError: a record is damaged; its file and image are named.
        """
        self._load_slots(epoch % self.num_variants)
        steps = islice(self.sampler.batches(epoch), start_batch, None)
        if self.choice.kind == "resident":
            for indices in steps:
                yield self._resident_batch(indices, epoch)
            return

        def produce(take: Callable[[int], Batch]) -> Iterator[Batch]:
            for indices in self._announced(steps, epoch):
                yield self._fill(take(len(indices)), indices, epoch)

        # Closed here and not by the garbage collector: its thread must have ended before the next epoch's
        # begins.
        with closing(self._ring.run(produce)) as batches:  # type: ignore[type-var]
            yield from batches

    def gather(self, indices: NDArray[np.int64], epoch: int = 0) -> Batch:
        """Return one batch of the given images, made in this thread; it is valid until the next call."""
        if self.choice.kind == "resident":
            return self._resident_batch(indices, epoch)
        return self._fill(self._ring.buffer(0, len(indices)), indices, epoch)

    def close(self) -> None:
        """Unmap files, stop threads."""
        for backend in self._backends:
            backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, column: Column) -> Backend:
        if self.choice.kind == "resident":
            variants = range(self.num_variants)
            return backends.ResidentColumn(column, device=self.device, variants=variants)
        if self.choice.kind == "mapped":
            return backends.open_mapped(column)
        if self._lookahead:  # two windows, and the blocks that a batch between them touches
            return BlockColumn(column, block_records=BLOCK_RECORDS, num_blocks=2 * WINDOW_BLOCKS + 2)
        return BlockColumn(column, block_records=1, num_blocks=4 * self.sampler.batch_size)

    def _load_slots(self, variant: int) -> None:
        self.columns[1].share_slots(self.columns[0], variant)

    def _slots(self, number: int, indices: NDArray[np.int64], epoch: int) -> NDArray[np.integer]:
        variant = epoch % self.num_variants
        rows = self._rows[number]
        where = indices + rows.start if isinstance(rows, slice) else rows[indices]
        slots: NDArray[np.integer] = self.columns[number].slots(variant)[where]
        return slots

    def _announced(self, steps: Iterator[NDArray[np.int64]], epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the steps; to block back ends, tell each of them a window ahead."""
        readers = [backend for backend in self._backends if isinstance(backend, BlockColumn)]
        if not readers:
            yield from steps
            return
        for reader in readers:
            reader.forget()
        waiting: deque[NDArray[np.int64]] = deque()
        num_waiting = 0
        for indices in steps:
            for number, reader in enumerate(readers):
                reader.expect(self._slots(number, indices, epoch))
            waiting.append(indices)
            num_waiting += len(indices)
            while num_waiting > max(self._lookahead // self.sampler.world_size, 2 * len(indices)):
                num_waiting -= len(waiting[0])
                yield waiting.popleft()
        yield from waiting

    def _fill(self, batch: Batch, indices: NDArray[np.int64], epoch: int) -> Batch:
        for number, (backend, out) in enumerate(zip(self._backends, (batch.inputs, batch.high), strict=True)):
            slots = self._slots(number, indices, epoch)
            backend.gather(slots, out)
            if self._is_checking and not self.columns[number].is_checked:
                self.columns[number].check(slots, out.numpy())
        batch.indices = torch.from_numpy(indices)  # not reused memory: who reports on a batch may keep them
        torch.index_select(self._labels, 0, batch.indices, out=batch.labels)
        batch.epoch = epoch
        return batch

    def _resident_batch(self, indices: NDArray[np.int64], epoch: int) -> Batch:
        images: list[Tensor] = []
        for number, backend in enumerate(self._backends):
            shape = (len(indices), *self.columns[number].manifest.shape)
            out = torch.empty(shape, dtype=torch.uint8, device=self.device)
            images.append(backend.gather(self._slots(number, indices, epoch), out))
        where = torch.from_numpy(indices)  # stays on the host, where draws are made of it
        labels = self._labels[to_device(where, self.device)]
        return Batch(images[0], images[1], labels, where, epoch)
