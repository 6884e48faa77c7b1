"""One opened column of a cache: where each record is, and what its bytes must hash to."""

from __future__ import annotations

import hashlib
import math
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.data.cache.damage import check_files
from dsrface.data.cache.index import read_index
from dsrface.data.cache.manifest import Manifest, read_manifest
from dsrface.data.cache.table import Table, names_sha256, read_table
from dsrface.data.layout import FaceSplit
from dsrface.data.names import PackedStrings
from dsrface.data.stored import MANIFEST, damaged, of_another_set
from dsrface.errors import RunError

BLOCK_RECORDS = 64
_INDICES_KEPT = 64


# Table rows int64 [n] and CRC-32 checksums uint32 [n] of a shard's records.
Index = tuple[NDArray[np.int64], NDArray[np.uint32]]


@dataclass(frozen=True)
class Extent:
    """A shard's place among the slots.

    A slot is a record's number in one address range over all shards, in which every shard begins on a page
    and at a block; so a few slots behind a shard's last record are unused.
    """

    path: Path
    first_slot: int
    count: int


class Column:
    """The records of one column, by slot.

    Opening checks the manifest and every file's size, never pixels: those are checked record by record when
    they are first delivered (`check`).

    Args:
        folder: The cache folder.

    Raises:
        RunError: no cache, unfinished, foreign, newer schema, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        check_files(folder, self.manifest)
        step = math.lcm(slots_per_page(self.manifest.record_bytes), BLOCK_RECORDS)
        self.extents: list[Extent] = []
        first = 0
        for shard in self.manifest.shards:
            self.extents.append(Extent(folder / shard.file, first, shard.count))
            first += -(-shard.count // step) * step
        self.num_slots = first
        self._starts = np.array([extent.first_slot for extent in self.extents], np.int64)
        self._table: Table | None = None
        self._checked_bits = np.zeros(-(-first // 8), np.uint8)
        self._num_unchecked = 0
        self._slots: dict[int, NDArray[np.integer]] = {}
        self._indices: dict[int, Index] = {}

    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""
        return self.manifest.record_bytes

    @property
    def num_bytes(self) -> int:
        """Bytes of all records."""
        return self.manifest.num_records * self.record_bytes

    @property
    def table(self) -> Table:
        """Names, labels and input hashes; read when first asked for."""
        if self._table is None:
            self._table = read_table(self.folder, self.manifest)
        return self._table

    def rows_of(self, split: FaceSplit) -> NDArray[np.int64] | slice:
        """Return the table row of each image of a split; a slice where they are neighbours, as nearly always.

        Raises:
            RunError: the cache lacks an image of the split; the first one is named.
        """
        digest = names_sha256(split.names)
        for part in self.manifest.parts:
            if part.names_sha256 == digest and part.num_rows == len(split):
                return slice(part.first_row, part.first_row + part.num_rows)
        rows = lookup(self.table.names, split.names)
        lacking = np.flatnonzero(rows < 0)
        if len(lacking):
            raise RunError(
                f"{len(lacking)} of {len(split)} images of the {split.name} split are not in the cache, "
                f"first {split.names[int(lacking[0])]!r}.",
                id="cache-lacks-images",
                where=self.folder,
                hint=of_another_set(self.folder, split.root)
                or "Run the same `dsrface precompute` again: it appends what is new.",
            )
        return rows

    def slots(self, variant: int) -> NDArray[np.integer]:
        """Return the slot of every table row in a variant; read from the index files when first asked for.

        Raises:
            RunError: an index file is damaged.
        """
        if variant not in self._slots:
            kind = np.int32 if self.num_slots < 2**31 else np.int64
            slots: NDArray[np.integer] = np.full(self.manifest.num_images, -1, kind)
            for number, (shard, extent) in enumerate(zip(self.manifest.shards, self.extents, strict=True)):
                if shard.variant != variant:
                    continue
                rows, _ = self._index(number)
                slots[rows] = np.arange(extent.first_slot, extent.first_slot + shard.count, dtype=kind)
                self._num_unchecked += shard.count
            if len(slots) and slots.min() < 0:
                raise damaged(f"Variant {variant} lacks images.", self.folder / MANIFEST)
            self._slots[variant] = slots
        return self._slots[variant]

    def share_slots(self, other: Column, variant: int) -> None:
        """Use another column's slots where they are the same, as when both were written in one run."""
        mine, theirs = self.slots(variant), other.slots(variant)
        if mine is not theirs and np.array_equal(mine, theirs):
            self._slots[variant] = theirs

    def blocks(self, variant: int) -> NDArray[np.int64]:
        """Return the blocks of `BLOCK_RECORDS` neighbouring slots that hold records of a variant."""
        found = [
            extent.first_slot // BLOCK_RECORDS + np.arange(-(-extent.count // BLOCK_RECORDS))
            for shard, extent in zip(self.manifest.shards, self.extents, strict=True)
            if shard.variant == variant
        ]
        return np.concatenate(found, dtype=np.int64)

    def rows_of_block(self, block: int) -> NDArray[np.int64]:
        """Return the table row of each record of a block, in the order of its slots.

        Raises:
            RunError: an index file is damaged.
        """
        number, record = self._place(block * BLOCK_RECORDS)
        rows, _ = self._index(number)
        return rows[record : record + BLOCK_RECORDS]

    @property
    def is_checked(self) -> bool:
        """Whether every record of the variants in use has been compared with its checksum."""
        return self._num_unchecked == 0

    def check(self, slots: NDArray[np.integer], records: NDArray[np.uint8]) -> None:
        """Compare records with their checksums, those that this process has not compared before.

        Args:
            slots: int [B].
            records: uint8 [B, ...], what was read from there.

        Raises:
            RunError: a record differs; its file, position and image are named.
        """
        is_checked = self._checked_bits[slots >> 3] >> (slots & 7).astype(np.uint8) & 1
        for position in np.flatnonzero(is_checked == 0):
            slot = int(slots[position])
            number, record = self._place(slot)
            expected = int(self._index(number)[1][record])
            found = zlib.crc32(records[position])
            if found != expected:
                raise self._damaged_record(slot, found, expected)
            bit = np.uint8(1 << (slot & 7))
            if not self._checked_bits[slot >> 3] & bit:  # a batch may hold an image twice
                self._checked_bits[slot >> 3] |= bit
                self._num_unchecked -= 1

    def _place(self, slot: int) -> tuple[int, int]:
        """Return the number of the shard that holds a slot, and the record's number in it."""
        number = int(np.searchsorted(self._starts, slot, side="right")) - 1
        return number, slot - self.extents[number].first_slot

    def _index(self, number: int) -> Index:
        """Return the rows and checksums of a shard; those of few shards are kept, however many there are."""
        if number not in self._indices:
            shard = self.manifest.shards[number]
            rows, crcs, raw = read_index(self.folder, shard)
            if hashlib.sha256(raw).hexdigest() != shard.index_sha256:
                raise damaged(f"{shard.index_file}: index_sha256 differs.", self.folder / shard.index_file)
            if len(self._indices) == _INDICES_KEPT:
                del self._indices[next(iter(self._indices))]
            self._indices[number] = rows, crcs
        return self._indices[number]

    def _damaged_record(self, slot: int, found: int, expected: int) -> RunError:
        number, record = self._place(slot)
        path = self.extents[number].path
        name = "?"
        for slots in self._slots.values():
            rows = np.flatnonzero(slots == slot)
            if len(rows):
                name = self.table.names[int(rows[0])]
        return damaged(
            f"Record {record} of {path.name} ({name}) is damaged: crc32 differs, "
            f"{expected:08x} -> {found:08x}.",
            path,
        )


def slots_per_page(record_bytes: int) -> int:
    """Return the smallest number of records that fills whole pages."""
    return mmap.ALLOCATIONGRANULARITY // math.gcd(mmap.ALLOCATIONGRANULARITY, record_bytes)


def lookup(names: PackedStrings, wanted: PackedStrings) -> NDArray[np.int64]:
    """Return the position of each wanted name in `names`, -1 where it is not."""
    # Mostly some images were left out and the rest is in the same order: that needs no dictionary of all.
    left = iter(wanted)
    name = next(left, None)
    rows = []
    for number, candidate in enumerate(names):
        if candidate == name:
            rows.append(number)
            name = next(left, None)
    if name is None:
        return np.array(rows, np.int64)
    position = {name: number for number, name in enumerate(names)}
    return np.fromiter((position.get(name, -1) for name in wanted), np.int64, len(wanted))
