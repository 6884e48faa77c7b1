"""Read the images that a column is made from, in the order in which it is written, ahead of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dsrface.data.cache.manifest import ShardPlan
from dsrface.data.datasets import PairDataset, Sample
from dsrface.data.decode import read_sized
from dsrface.data.loaders import make_loader
from dsrface.data.names import PackedStrings
from dsrface.data.samplers import Key, RankedSampler
from dsrface.runtime.ahead import ahead

_AHEAD = 4
_EMPTY = torch.empty(0, dtype=torch.uint8)


class RowDataset(Dataset[Sample]):
    """The images of a table, one image each; an item is asked for as (variant, row).

    Args:
        folder: Folder of the images.
        names: Their names.
        size_px: The side that each must have.
        augmented: Makes the variants after the first; row is its index, variant its epoch.
        is_high: Take the HR twin of `augmented`, not its input.
    """

    def __init__(
        self,
        folder: Path,
        names: PackedStrings,
        *,
        size_px: int,
        augmented: PairDataset | None = None,
        is_high: bool = False,
    ) -> None:
        self.folder = folder
        self.names = names
        self.size_px = size_px
        self.augmented = augmented
        self.is_high = is_high

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | Key) -> Sample:
        """Return the image as `inputs`; `high` is empty.

        Raises:
            ImageError: missing, damaged, or of another size.
        """
        variant, row = key if isinstance(key, tuple) else (0, int(key))
        return Sample(torch.from_numpy(self.image(variant, row)), _EMPTY, 0, row)

    def image(self, variant: int, row: int) -> NDArray[np.uint8]:
        """Return uint8 [S, S, 3]; see `__getitem__`."""
        if variant and self.augmented is not None:
            pair = self.augmented[variant, row]
            image: NDArray[np.uint8] = (pair.high if self.is_high else pair.inputs).numpy()
            return image
        return read_sized(self.folder / self.names[row], self.size_px)


class PlanSampler(RankedSampler):
    """The batches of some shards in their order on disk; no batch spans two shards.

    Batches are cut at the same places by every run, so that a resumed run sees the same batches and rounds
    the same way.
    """

    def __init__(self, shards: Sequence[ShardPlan], *, batch_size: int) -> None:
        super().__init__(batch_size=batch_size, rank=0, world_size=1)
        self._shards = shards

    @property
    def num_batches(self) -> int:
        """Batches over all shards."""
        return sum(-(-len(shard.rows) // self.batch_size) for shard in self._shards)

    def global_batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of every batch; the variant is in `steps`."""
        del epoch
        return (rows for _, rows in self.steps())

    def steps(self) -> Iterator[tuple[ShardPlan, NDArray[np.int64]]]:
        """Yield each batch with its shard."""
        for shard in self._shards:
            for start in range(0, len(shard.rows), self.batch_size):
                yield shard, shard.rows[start : start + self.batch_size]

    def __iter__(self) -> Iterator[list[Key]]:
        for shard, rows in self.steps():
            yield [(shard.variant, row) for row in rows.tolist()]


def read_steps(
    dataset: RowDataset,
    sampler: PlanSampler,
    *,
    num_workers: int,
    num_threads: int,
) -> Iterator[Tensor]:
    """Yield uint8 [B, S, S, 3] for every step of the sampler, read ahead by processes or by threads.

    Args:
        dataset: What to read.
        sampler: In which order.
        num_workers: Worker processes; 0 takes threads of this one.
        num_threads: How many of those.
    """
    if num_workers:
        with make_loader(dataset, sampler, num_workers=num_workers) as loader:
            for batch in loader.epoch(0):
                yield batch.inputs
        return

    def read(step: tuple[ShardPlan, NDArray[np.int64]]) -> Tensor:
        shard, rows = step
        return torch.from_numpy(np.stack([dataset.image(shard.variant, row) for row in rows.tolist()]))

    yield from ahead(read, sampler.steps(), num_threads=num_threads, depth=num_threads + _AHEAD)
