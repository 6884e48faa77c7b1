"""An order of batches that can be read from a disk in whole blocks and is still well shuffled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsrface.data import draws
from dsrface.data.cache.column import BLOCK_RECORDS, Column
from dsrface.data.layout import FaceSplit
from dsrface.data.samplers import EpochOrder

WINDOW_BLOCKS = 32


class WindowOrder(EpochOrder):
    """Blocks in random order, and the images of each window of 32 blocks mixed.

    The records on disk are themselves in random order, so a block is diverse in persons and windows cost no
    diversity. A split that fits in one window has the same order as without a cache. As with every order of
    ours, it depends on (seed, epoch) and the cache alone.

    Args:
        split: The images to order.
        column: The cache that will be read.
        seed: With the epoch it fixes the order.
    """

    def __init__(self, split: FaceSplit, column: Column, *, seed: int) -> None:
        super().__init__(len(split), seed)
        self._column = column
        self._rows = column.rows_of(split)

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """See `EpochOrder`."""
        window = WINDOW_BLOCKS * BLOCK_RECORDS
        if self.num_samples <= window:
            return super().permutation(epoch)
        slots = self._column.slots(epoch % self._column.manifest.num_variants)[self._rows]
        by_slot = np.full(self._column.num_slots, -1, np.int32 if self.num_samples < 2**31 else np.int64)
        by_slot[slots] = np.arange(self.num_samples)
        num_blocks = -(-len(by_slot) // BLOCK_RECORDS)
        padded = np.full(num_blocks * BLOCK_RECORDS, -1, by_slot.dtype)
        padded[: len(by_slot)] = by_slot
        rng = draws.generator(self.seed, epoch, 0, "window-order")
        mixed = padded.reshape(num_blocks, BLOCK_RECORDS)[rng.permutation(num_blocks)].reshape(-1)
        mixed = mixed[mixed >= 0]
        del by_slot, padded
        for start in range(0, len(mixed), window):
            rng.shuffle(mixed[start : start + window])
        return mixed.astype(np.int64)
