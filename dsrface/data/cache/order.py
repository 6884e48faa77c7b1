"""An order of batches that can be read from a disk in whole blocks and is still well shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

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
    dsrface, it depends on (seed, epoch) and the cache alone.

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
        return np.concatenate(list(self.pieces(epoch)))

    def pieces(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the order window by window; so its memory does not grow with the data.

        Raises:
            RunError: an index file of the cache is damaged.
        """
        if self.num_samples <= WINDOW_BLOCKS * BLOCK_RECORDS:
            yield super().permutation(epoch)
            return
        blocks = self._column.blocks(epoch % self._column.manifest.num_variants)
        rng = draws.generator(self.seed, epoch, 0, "window-order")
        rng.shuffle(blocks)
        for window in np.split(blocks, range(WINDOW_BLOCKS, len(blocks), WINDOW_BLOCKS)):
            rows = np.concatenate([self._column.rows_of_block(block) for block in window.tolist()])
            indices = self._indices_of(rows)
            rng.shuffle(indices)
            yield indices

    def _indices_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the images of the split that are in some rows of the table."""
        if isinstance(self._rows, slice):
            indices = rows - int(self._rows.start)
            return indices[(indices >= 0) & (indices < self.num_samples)]
        known = self._position[rows]
        return known[known >= 0].astype(np.int64)

    @cached_property
    def _position(self) -> NDArray[np.int32]:
        """The image of the split that each row of the table holds, -1 where it is of another split."""
        position = np.full(self._column.manifest.num_images, -1, np.int32)
        position[self._rows] = np.arange(self.num_samples)
        return position
