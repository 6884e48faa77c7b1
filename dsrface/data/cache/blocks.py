"""Read a column that does not fit in memory: whole blocks by a few threads, ahead of who needs them."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsrface.data.cache.column import BLOCK_RECORDS, Column, Extent
from dsrface.data.stored import damaged

_THREADS = 4


class BlockColumn:
    """Blocks of neighbouring records, read into a reused pool.

    `expect` names the slots of a coming batch and starts the reads; `gather`, called in the same order, waits
    for them and copies the records out. A block is read once, stays while an expected batch needs it, and its
    place in the pool is then used again.

    Args:
        column: What to read.
        block_records: Records a read; 1 when batches are not shuffled by windows of blocks.
        num_blocks: Blocks in the pool; it grows when the expected batches need more.
    """

    def __init__(self, column: Column, *, block_records: int = BLOCK_RECORDS, num_blocks: int = 16) -> None:
        self._column = column
        self._block = block_records
        self._pool = torch.empty((num_blocks * block_records, *column.manifest.shape), dtype=torch.uint8)
        self._free = list(range(num_blocks))[::-1]
        self._place: dict[int, int] = {}
        self._users: dict[int, int] = {}
        self._loading: dict[int, Future[None]] = {}
        self._expected: deque[NDArray[np.int64]] = deque()
        self._starts = np.array([extent.first_slot for extent in column.extents], np.int64)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dsrface-blocks")

    def expect(self, slots: NDArray[np.integer]) -> None:
        """Start reading what a batch will need."""
        blocks = np.unique(slots // self._block)
        self._expected.append(blocks)
        fresh = []
        for block in blocks.tolist():
            self._users[block] = self._users.get(block, 0) + 1
            if block not in self._place:
                if not self._free:
                    self._grow()
                self._place[block] = self._free.pop()
                fresh.append(block)
        for part in (fresh[i::_THREADS] for i in range(min(_THREADS, len(fresh)))):
            future = self._threads.submit(self._read, part)
            self._loading.update(dict.fromkeys(part, future))

    def gather(self, slots: NDArray[np.integer], out: Tensor) -> Tensor:
        """See `Backend`; without a matching `expect` before it, it reads on the spot."""
        if not self._expected:
            self.expect(slots)
        blocks = self._expected.popleft()
        for block in blocks.tolist():
            future = self._loading.pop(block, None)
            if future is not None:
                future.result()
        owners, within = np.divmod(slots.astype(np.int64), self._block)
        base = np.array([self._place[block] for block in owners.tolist()], np.int64) * self._block
        torch.index_select(self._pool, 0, torch.from_numpy(base + within), out=out)
        for block in blocks.tolist():
            self._users[block] -= 1
            if not self._users[block]:
                del self._users[block]
                self._free.append(self._place.pop(block))
        return out

    def forget(self) -> None:
        """Drop what was expected, as when an epoch is left in the middle."""
        for future in self._loading.values():
            with contextlib.suppress(Exception):
                future.result()
        self._loading.clear()
        self._expected.clear()
        self._users.clear()
        self._free += self._place.values()
        self._place.clear()

    def close(self) -> None:
        """Stop the threads and close the files."""
        self.forget()
        self._threads.shutdown()

    def _grow(self) -> None:
        # Reads in flight write into the old pool: let them end before it is replaced.
        for future in set(self._loading.values()):
            future.result()
        old = self._pool
        count = len(old) // self._block
        self._pool = torch.empty((2 * len(old), *old.shape[1:]), dtype=torch.uint8)
        self._pool[: len(old)] = old
        self._free += list(range(2 * count - 1, count - 1, -1))

    def _read(self, blocks: list[int]) -> None:
        pool = self._pool.numpy()
        for block in sorted(blocks):
            first = block * self._block
            number = int(np.searchsorted(self._starts, first, side="right")) - 1
            extent = self._column.extents[number]
            # Shards begin at multiples of a block, so a block is in one shard; the last may be shorter.
            count = min(self._block, extent.first_slot + extent.count - first)
            place = self._place[block] * self._block
            target = pool[place : place + count].reshape(-1).data
            _read_extent(extent, (first - extent.first_slot) * self._column.record_bytes, target)


def _read_extent(extent: Extent, offset: int, target: memoryview) -> None:
    """Fill `target` from `offset` of a shard on; from any thread.

    The file is opened for each read: that costs 10 us next to the read of a block, and ten million records
    would need more open files than a process may have.

    Raises:
        RunError: the file is gone, or shorter than it was when the cache was opened.
    """
    filled = 0
    try:
        descriptor = os.open(extent.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if hasattr(os, "posix_fadvise"):
                # Blocks come in random order: read-ahead would fetch what no batch asked for.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            while filled < len(target) and (got := _read_at(descriptor, target[filled:], offset + filled)):
                filled += got
        finally:
            os.close(descriptor)
    except OSError as error:
        raise damaged(f"{extent.path.name} cannot be read: {error.strerror}.", extent.path) from error
    if filled < len(target):
        raise damaged(f"{extent.path.name} is truncated: it ends at byte {offset + filled}.", extent.path)


def _read_at(descriptor: int, target: memoryview, offset: int) -> int:
    """Read at an offset; the descriptor is this thread's own, so seeking, as Windows needs, is safe."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    data = os.read(descriptor, len(target))
    target[: len(data)] = data
    return len(data)
