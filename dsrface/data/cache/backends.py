"""Ways to bring records into a batch: mapped memory, blocks read from disk, or a tensor on the device.

All give the same bytes for the same slots; `choose` picks one by what fits where, and says why.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsrface.data.cache.column import Column, Extent
from dsrface.runtime.resources import memory_limit
from dsrface.runtime.text import size_text
from dsrface.types import to_device

Kind = Literal["resident", "mapped", "blocks"]
Resident = Literal["auto", "always", "never"]

RAM_FRACTION = 0.6
DEVICE_FRACTION = 0.4
_CHUNK_RECORDS = 1024
_MAP_FIXED = 0x10  # Linux and macOS agree


class Backend(Protocol):
    """Brings the records of one column."""

    def gather(self, slots: NDArray[np.integer], out: Tensor) -> Tensor:
        """Fill `out`, uint8 [B, H, W, C], with the records of `slots`; return it."""
        ...

    def close(self) -> None:
        """Let go of files and memory."""
        ...


@dataclass(frozen=True)
class Choice:
    """A back end and why it was taken."""

    kind: Kind
    reason: str


def choose(columns: Sequence[Column], *, device: str, resident: Resident) -> Choice:
    """Pick the fastest back end that fits.

    Args:
        columns: All columns that will be read.
        device: Where the batches will be used.
        resident: Whether the cache may be, must be or must not be kept on the device.
    """
    needed = sum(column.num_slots * column.record_bytes for column in columns)
    if resident == "always":
        return Choice("resident", f"asked for: {size_text(needed)} on {device}")
    why_not = ""
    if device.startswith("cuda") and resident == "auto":
        free, _ = torch.cuda.mem_get_info(device)
        room = int(free * DEVICE_FRACTION)
        if needed <= room:
            return Choice(
                "resident",
                f"{size_text(needed)} fit in {DEVICE_FRACTION:.0%} of {device}'s free {size_text(free)}",
            )
        why_not = f"; too large for {device}: {DEVICE_FRACTION:.0%} of its free {size_text(free)}"
    memory = memory_limit()
    total = sum(column.num_bytes for column in columns)
    limit = f"{RAM_FRACTION:.0%} of {size_text(memory.available_bytes)} ({memory.reason})"
    if total <= memory.available_bytes * RAM_FRACTION:
        return Choice("mapped", f"{size_text(total)} fit in {limit}{why_not}")
    return Choice("blocks", f"{size_text(total)} do not fit in {limit}{why_not}")


class MappedColumn:
    """All shards mapped behind one another at neighbouring addresses, so that one gather serves a batch.

    Files are never rewritten once their name exists, and their sizes were checked; so no access can fault.
    """

    def __init__(self, column: Column) -> None:
        num_bytes = column.num_slots * column.record_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._reserved: mmap.mmap | None = mmap.mmap(-1, max(num_bytes, 1), flags=flags, prot=mmap.PROT_READ)
        address = np.frombuffer(self._reserved, np.uint8).ctypes.data
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        for extent in column.extents:
            length = extent.count * column.record_bytes
            target = address + extent.first_slot * column.record_bytes
            descriptor = os.open(extent.path, os.O_RDONLY)
            try:
                _check_size(descriptor, length, extent)
                got = libc.mmap(target, length, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, descriptor, 0)
                if got != target:
                    raise OSError(ctypes.get_errno(), "mmap failed", str(extent.path))
            finally:
                os.close(descriptor)
        # A ctypes array and not the mmap itself: torch warns about buffers that cannot be written to.
        raw = (ctypes.c_uint8 * max(num_bytes, 1)).from_address(address)
        self._records: Tensor | None = torch.frombuffer(raw, dtype=torch.uint8, count=num_bytes).view(
            -1, *column.manifest.shape
        )

    def gather(self, slots: NDArray[np.integer], out: Tensor) -> Tensor:
        """See `Backend`."""
        assert self._records is not None
        return torch.index_select(self._records, 0, torch.from_numpy(slots), out=out)

    def close(self) -> None:
        """Unmap."""
        self._records = None
        self._reserved = None


class ShardedColumn:
    """Shards mapped one by one, for systems that cannot choose an address (Windows).

    Mapped for reading alone: a map that could be written to is charged to Windows' page file, all of it, for
    each process again.
    """

    def __init__(self, column: Column) -> None:
        self._starts = np.array([extent.first_slot for extent in column.extents], np.int64)
        self._shards: list[NDArray[np.uint8]] = []
        for extent in column.extents:
            length = extent.count * column.record_bytes
            with extent.path.open("rb") as handle:
                _check_size(handle.fileno(), length, extent)
                mapped = mmap.mmap(handle.fileno(), length, access=mmap.ACCESS_READ)
            self._shards.append(np.frombuffer(mapped, np.uint8).reshape(extent.count, column.record_bytes))

    def gather(self, slots: NDArray[np.integer], out: Tensor) -> Tensor:
        """See `Backend`."""
        owners = np.searchsorted(self._starts, slots, side="right") - 1
        places = zip(owners.tolist(), (slots - self._starts[owners]).tolist(), strict=True)
        target = out.numpy().reshape(len(slots), -1)
        for number, (owner, row) in enumerate(places):  # a record is one long copy: the loop costs little
            target[number] = self._shards[owner][row]
        return out

    def close(self) -> None:
        """Unmap."""
        self._shards = []


class ResidentColumn:
    """The whole column as one tensor on a device, checked as it is loaded."""

    def __init__(self, column: Column, *, device: str, variants: Sequence[int]) -> None:
        self.device = torch.device(device)
        for variant in variants:
            column.slots(variant)  # loads the checksums
        self._records: Tensor | None = torch.empty(
            (column.num_slots, *column.manifest.shape), dtype=torch.uint8, device=self.device
        )
        staging = torch.empty((_CHUNK_RECORDS, *column.manifest.shape), dtype=torch.uint8)
        if self.device.type == "cuda":
            staging = staging.pin_memory()
        for extent in column.extents:
            with extent.path.open("rb", buffering=0) as handle:
                _check_size(handle.fileno(), extent.count * column.record_bytes, extent)
                for start in range(0, extent.count, _CHUNK_RECORDS):
                    count = min(_CHUNK_RECORDS, extent.count - start)
                    chunk = staging[:count]
                    _read_fully(handle.readinto, chunk.numpy().reshape(-1).data, extent)
                    first = extent.first_slot + start
                    column.check(np.arange(first, first + count), chunk.numpy())
                    self._records[first : first + count].copy_(chunk)

    def gather(self, slots: NDArray[np.integer], out: Tensor) -> Tensor:
        """See `Backend`; `out` is on the device too."""
        assert self._records is not None
        index = to_device(torch.from_numpy(slots), self.device)
        return torch.index_select(self._records, 0, index, out=out)

    def close(self) -> None:
        """Free the memory."""
        self._records = None


def open_mapped(column: Column) -> Backend:
    """Map a column in the best way this system has."""
    return MappedColumn(column) if os.name == "posix" else ShardedColumn(column)


def _check_size(descriptor: int, expected: int, extent: Extent) -> None:
    from dsrface.data.stored import damaged

    found = os.fstat(descriptor).st_size
    if found != expected:
        raise damaged(f"{extent.path.name}: size differs, {expected} -> {found} bytes.", extent.path)


def _read_fully(readinto: object, target: memoryview, extent: Extent) -> None:
    from dsrface.data.stored import damaged

    filled = 0
    while filled < len(target):
        num = readinto(target[filled:])  # type: ignore[operator]
        if not num:
            raise damaged(f"{extent.path.name} ended early.", extent.path)
        filled += num
