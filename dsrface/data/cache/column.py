"""One opened column of a cache: where each record lies, and what its bytes must hash to."""

from __future__ import annotations

import hashlib
import math
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.data.cache import format as fmt
from dsrface.data.cache.format import Manifest
from dsrface.data.cache.table import Table, names_sha256, read_table
from dsrface.data.layout import FaceSplit
from dsrface.data.names import PackedStrings
from dsrface.errors import RunError

BLOCK_RECORDS = 64


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
        self.manifest: Manifest = fmt.read_manifest(folder)
        fmt.check_files(folder, self.manifest)
        step = math.lcm(slots_per_page(self.manifest.record_bytes), BLOCK_RECORDS)
        self.extents: list[Extent] = []
        first = 0
        for shard in self.manifest.shards:
            self.extents.append(Extent(folder / shard.file, first, shard.count))
            first += -(-shard.count // step) * step
        self.num_slots = first
        self._table: Table | None = None
        self._crcs = np.zeros(first, np.uint32)
        self._is_checked = np.zeros(first, np.bool_)
        self._num_unchecked = 0
        self._slots: dict[int, NDArray[np.integer]] = {}

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
                hint="Run the same `dsrface precompute` again: it appends what is new.",
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
            for shard, extent in zip(self.manifest.shards, self.extents, strict=True):
                if shard.variant != variant:
                    continue
                rows, crcs, raw = fmt.read_index(self.folder, shard)
                if hashlib.sha256(raw).hexdigest() != shard.index_sha256:
                    raise fmt.damaged(
                        f"{shard.index_file}: index_sha256 differs.", self.folder / shard.index_file
                    )
                slots[rows] = np.arange(extent.first_slot, extent.first_slot + shard.count, dtype=kind)
                self._crcs[extent.first_slot : extent.first_slot + shard.count] = crcs
                self._num_unchecked += shard.count
            if len(slots) and slots.min() < 0:
                raise fmt.damaged(f"Variant {variant} lacks images.", self.folder / fmt.MANIFEST)
            self._slots[variant] = slots
        return self._slots[variant]

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
        for position in np.flatnonzero(~self._is_checked[slots]):
            slot = int(slots[position])
            found = zlib.crc32(records[position])
            if found != self._crcs[slot]:
                raise self._damaged_record(slot, found)
            if not self._is_checked[slot]:
                self._is_checked[slot] = True
                self._num_unchecked -= 1

    def place(self, slot: int) -> tuple[Extent, int]:
        """Return the shard that holds a slot, and the record's number in it."""
        starts = [extent.first_slot for extent in self.extents]
        number = int(np.searchsorted(starts, slot, side="right")) - 1
        return self.extents[number], slot - starts[number]

    def _damaged_record(self, slot: int, found: int) -> RunError:
        extent, number = self.place(slot)
        name = "?"
        for slots in self._slots.values():
            rows = np.flatnonzero(slots == slot)
            if len(rows):
                name = self.table.names[int(rows[0])]
        return fmt.damaged(
            f"Record {number} of {extent.path.name} ({name}) is damaged: crc32 differs, "
            f"{int(self._crcs[slot]):08x} -> {found:08x}.",
            extent.path,
        )


def slots_per_page(record_bytes: int) -> int:
    """Return the smallest number of records that fills whole pages."""
    return mmap.ALLOCATIONGRANULARITY // math.gcd(mmap.ALLOCATIONGRANULARITY, record_bytes)


def lookup(names: PackedStrings, wanted: PackedStrings) -> NDArray[np.int64]:
    """Return the position of each wanted name in `names`, -1 where it is not."""
    position = {name: number for number, name in enumerate(names)}
    return np.fromiter((position.get(name, -1) for name in wanted), np.int64, len(wanted))
