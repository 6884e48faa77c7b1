"""Write one column of a cache: shard by shard, resumable after any kill, complete once it has a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from dsrface.data.cache.damage import content_problem, shard_problem
from dsrface.data.cache.index import index_bytes
from dsrface.data.cache.manifest import Manifest, Shard, ShardPlan, read_manifest
from dsrface.data.stored import MANIFEST, PLAN
from dsrface.errors import MachineError, RunError
from dsrface.runtime.files import (
    TMP_SUFFIX,
    atomic_writer,
    read_json,
    write_bytes,
    write_json,
)
from dsrface.runtime.text import size_text

_SPARE_FRACTION = 0.02
# A shard goes to the disk as it grows, while the network works on: at its end all would have to wait for it.
_SYNC_BYTES = 16_000_000
_sync = getattr(os, "fdatasync", os.fsync)
# What may be deleted: the exact names that are written here, and their temporary ones with a process number.
_OURS = re.compile(
    r"shard-\d{5,}\.(u8|idx|json)(\.\d+\.tmp)?|table-[0-9a-f]{12}\.safetensors(\.\d+\.tmp)?"
    r"|(manifest|plan)\.json\.\d+\.tmp"
)


@dataclass(frozen=True)
class ColumnWriter:
    """The shards of one column that are still to be written.

    Whoever uses it holds the lock `folder / LOCK`. Several processes may write disjoint shards of one plan;
    one of them calls `finish`.

    Args:
        folder: The cache folder.
        plan: The manifest to be, without its shards.
        done: Finished shards by number.
    """

    folder: Path
    plan: Manifest
    done: dict[int, Shard]

    @classmethod
    def open(cls, folder: Path, plan: Manifest) -> ColumnWriter:
        """Begin or go on: what an earlier run finished under the same plan is checked by hash and kept.

        Args:
            folder: Made when missing.
            plan: What is to be written; the caller has made sure that it belongs to what `folder` holds.

        Raises:
            MachineError: the disk has not enough room.
        """
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        done = _finished_shards(folder, plan)
        _check_room(folder, plan, done)
        write_json(folder / PLAN, plan.to_json())
        return cls(folder, plan, done)

    def missing(self) -> list[ShardPlan]:
        """Return the shards to write, in order."""
        return [shard for shard in self.plan.planned_shards() if shard.number not in self.done]

    @contextlib.contextmanager
    def shard(self, plan: ShardPlan) -> Iterator[ShardWriter]:
        """Write one shard; it exists, under its name, only after the block ends well.

        Raises:
            MachineError: disk full or read-only; earlier shards stay valid.
        """
        path = self.folder / plan.file
        with atomic_writer(path) as handle:
            num_bytes = len(plan.rows) * self.plan.record_bytes
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, num_bytes)  # a full disk shows now, not after the work
            shard = ShardWriter(handle, plan, self.plan.shape)
            yield shard
            if shard.count != len(plan.rows):
                raise ValueError(f"{plan.file}: {shard.count} records written, {len(plan.rows)} planned")
        index = index_bytes(plan.rows, np.asarray(shard.crcs, np.uint32))
        entry = Shard(
            plan.file,
            plan.segment,
            plan.variant,
            shard.count,
            shard.digest.hexdigest(),
            hashlib.sha256(index).hexdigest(),
        )
        write_bytes(self.folder / entry.index_file, index)
        write_json(self.folder / entry.entry_file, vars(entry))
        self.done[plan.number] = entry

    def finish(self) -> Manifest:
        """Write the manifest over all shards, those of other ranks included, and clear the plan away.

        Raises:
            RunError: a shard is still missing.
        """
        done = _finished_shards(self.folder, self.plan, check_hashes=False)
        total = self.plan.num_shards
        missing = [shard.file for shard in self.plan.planned_shards() if shard.number not in done]
        if missing:
            raise RunError(
                f"{len(missing)} of {total} shards are missing, first {missing[0]}.",
                id="cache-unfinished",
                where=self.folder,
                hint="Run the same `dsrface precompute` again.",
            )
        manifest = replace(self.plan, shards=tuple(done[number] for number in range(total)))
        write_json(self.folder / MANIFEST, manifest.to_json())
        for name in garbage(self.folder, sources=(MANIFEST,)):
            (self.folder / name).unlink(missing_ok=True)
        # Last, so that a run killed before this comes here again and leaves nothing behind.
        (self.folder / PLAN).unlink(missing_ok=True)
        return manifest


class ShardWriter:
    """Takes the records of one shard, hashing as it writes."""

    def __init__(self, handle: IO[bytes], plan: ShardPlan, shape: tuple[int, int, int]) -> None:
        self.plan = plan
        self.count = 0
        self.crcs: list[int] = []
        self.digest = hashlib.sha256()
        self._handle = handle
        self._shape = shape
        self._unsynced_bytes = 0

    def append(self, records: NDArray[np.uint8]) -> None:
        """Write uint8 [B, H, W, 3] records, the next ones of the plan."""
        if records.dtype != np.uint8 or records.shape[1:] != self._shape:
            raise ValueError(f"records are {records.dtype} {records.shape[1:]}, not uint8 {self._shape}")
        block = np.ascontiguousarray(records)
        self.crcs += [zlib.crc32(record) for record in block]
        self.digest.update(block.data)
        self._handle.write(block.data)
        self.count += len(block)
        self._unsynced_bytes += block.nbytes
        if self._unsynced_bytes >= _SYNC_BYTES:
            self._handle.flush()
            _sync(self._handle.fileno())
            self._unsynced_bytes = 0


def remove_cache(folder: Path) -> None:
    """Delete a cache and nothing else: first the manifest, so that a kill leaves no half cache."""
    for name in (MANIFEST, PLAN):
        (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)
    for name in garbage(folder):
        (folder / name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of killed writers."""
    for entry in _entries(folder):
        if entry.endswith(TMP_SUFFIX) and _looks_ours(entry):
            (folder / entry).unlink(missing_ok=True)


def garbage(folder: Path, *, sources: Sequence[str] = (MANIFEST, PLAN)) -> list[str]:
    """Return the files that look like a cache's but that neither manifest nor plan needs, sorted."""
    needed: set[str] = set()
    for name in sources:
        if (folder / name).exists():
            manifest = read_manifest(folder, name=name)
            needed.add(manifest.table["file"])
            if name == PLAN:
                needed.update(file for shard in manifest.planned_shards() for file in shard.files)
            for shard in manifest.shards:
                needed |= {shard.file, shard.index_file}
    return [name for name in _entries(folder) if _looks_ours(name) and name not in needed]


def foreign_entry(folder: Path) -> str | None:
    """Return the first file or folder that no cache would have, or None."""
    return next(
        (name for name in _entries(folder) if not name.startswith(".") and not _looks_ours(name)), None
    )


def _looks_ours(name: str) -> bool:
    return _OURS.fullmatch(name) is not None


def _entries(folder: Path) -> Sequence[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _finished_shards(folder: Path, plan: Manifest, *, check_hashes: bool = True) -> dict[int, Shard]:
    """Return the shards of a plan that are complete on disk.

    A shard listed by an older manifest (before an append) counts as well as one with an entry file of its
    own.
    """
    listed: dict[str, Shard] = {}
    if (folder / MANIFEST).exists():
        listed = {shard.file: shard for shard in read_manifest(folder).shards}
    present = {name for name in _entries(folder) if name.startswith("shard-")}
    done = {}
    for shard_plan in plan.planned_shards():
        shard = listed.get(shard_plan.file)
        if shard_plan.entry_file in present:
            shard = _read_entry(folder / shard_plan.entry_file)
        if shard is None or shard_plan.file not in present or shard.count != len(shard_plan.rows):
            continue
        if (shard.segment, shard.variant) != (shard_plan.segment, shard_plan.variant):
            continue
        if shard_problem(folder, shard, record_bytes=plan.record_bytes) is not None:
            continue
        if check_hashes and content_problem(folder, shard) is not None:
            continue
        done[shard_plan.number] = shard
    return done


def _read_entry(path: Path) -> Shard | None:
    try:
        return TypeAdapter(Shard).validate_python(read_json(path))
    except (RunError, ValueError):
        return None


def _check_room(folder: Path, plan: Manifest, done: dict[int, Shard]) -> None:
    left = plan.num_records - sum(shard.count for shard in done.values())
    needed = int(left * (plan.record_bytes + 12) * (1 + _SPARE_FRACTION))
    free = shutil.disk_usage(folder).free
    # Shards whose files are there but damaged will be replaced; counting them twice errs on the safe side.
    if needed > free:
        raise MachineError(
            f"{left:,} images need {size_text(needed)}, and {size_text(free)} are free.",
            id="disk-too-small",
            where=folder,
            hint="Free some space, or put --output on another disk.",
        )
