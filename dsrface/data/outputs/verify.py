"""Read a cache or a PNG tree back and list all damage, with file, record and image."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsrface.data.cache.damage import shard_problem
from dsrface.data.cache.index import read_index
from dsrface.data.cache.manifest import Manifest, Shard, read_manifest
from dsrface.data.cache.table import Table, read_table
from dsrface.data.outputs import png_tree
from dsrface.errors import RunError
from dsrface.runtime.files import sha256_file

_CHUNK_RECORDS = 256
_MAX_NAMED = 20


@dataclass(frozen=True)
class Verified:
    """What a check found.

    Args:
        num_records: Records that were read.
        problems: One line for each piece of damage; empty when all is well.
    """

    num_records: int
    problems: tuple[str, ...]


Tell = Callable[[int, int], None]


def verify(folder: Path, *, sample: float = 1.0, progress: Tell | None = None) -> Verified:
    """Check a finished cache or PNG tree, whichever the folder holds.

    Args:
        folder: What `dsrface precompute` wrote.
        sample: Share of the images to read.
        progress: Receives images done and in all.

    Raises:
        RunError: no readable manifest, so there is nothing to compare with.
    """
    check = verify_tree if png_tree.is_tree_here(folder) else verify_cache
    return check(folder, sample=sample, progress=progress)


def verify_tree(folder: Path, *, sample: float = 1.0, progress: Tell | None = None) -> Verified:
    """Compare the files of a PNG tree with their hashes; see `verify`."""
    manifest = png_tree.read_tree_manifest(folder)
    problems = []
    if sha256_file(folder / png_tree.IMAGES) != manifest["images_sha256"]:
        problems.append(f"{png_tree.IMAGES}: images_sha256 differs.")
    rows = png_tree.read_images(folder)
    if sample < 1:
        rng = np.random.default_rng(0)
        rows = [row for row in rows if rng.random() < sample]
    for done, row in enumerate(rows, start=1):
        path = folder / row["name"]
        if not path.exists():
            problems.append(f"{row['name']} is missing.")
        elif path.stat().st_size != row["bytes"]:
            problems.append(f"{row['name']}: size differs, {row['bytes']} -> {path.stat().st_size} bytes.")
        elif sha256_file(path) != row["output"]:
            problems.append(f"{row['name']}: sha256 differs.")
        if progress is not None:
            progress(done, len(rows))
    return Verified(len(rows), tuple(problems))


def verify_cache(folder: Path, *, sample: float = 1.0, progress: Tell | None = None) -> Verified:
    """Check a finished cache: manifest, table, sizes, and the checksums of shards and records.

    Args:
        folder: The cache folder.
        sample: Share of the records to read. Below 1 records are compared one by one with their CRC, and the
            hashes over whole shards are not.
        progress: Receives records done and in all.

    Raises:
        RunError: no readable manifest, so there is nothing to compare with.
    """
    manifest = read_manifest(folder)
    problems: list[str] = []
    table: Table | None = None
    try:
        table = read_table(folder, manifest)
    except RunError as error:
        problems.append(error.message)
    rng = np.random.default_rng(0)
    done = 0
    for shard in manifest.shards:
        found = shard_problem(folder, shard, record_bytes=manifest.record_bytes)
        if found is not None:
            problems.append(found)
        else:
            chosen = (
                np.arange(shard.count) if sample >= 1 else np.flatnonzero(rng.random(shard.count) < sample)
            )
            problems += _check_shard(folder, manifest, shard, chosen, table, is_full=sample >= 1)
            done += len(chosen)
        if progress is not None:
            progress(done, int(manifest.num_records * min(1.0, sample)))
    return Verified(done, tuple(problems))


def _check_shard(
    folder: Path, manifest: Manifest, shard: Shard, chosen: np.ndarray, table: Table | None, *, is_full: bool
) -> list[str]:
    rows, crcs, raw = read_index(folder, shard)
    problems = []
    if hashlib.sha256(raw).hexdigest() != shard.index_sha256:
        problems.append(f"{shard.index_file}: index_sha256 differs.")
    size = manifest.record_bytes
    digest = hashlib.sha256()
    bad: list[int] = []
    with (folder / shard.file).open("rb") as handle:
        if is_full:
            for first in range(0, shard.count, _CHUNK_RECORDS):
                block = handle.read(_CHUNK_RECORDS * size)
                digest.update(block)
                records = [block[start : start + size] for start in range(0, len(block), size)]
                bad += [
                    first + number
                    for number, record in enumerate(records)
                    if zlib.crc32(record) != crcs[first + number]
                ]
        else:
            for number in chosen.tolist():
                handle.seek(number * size)
                bad += [number] if zlib.crc32(handle.read(size)) != crcs[number] else []
    for number in bad[:_MAX_NAMED]:
        name = table.names[int(rows[number])] if table is not None and rows[number] < len(table) else "?"
        problems.append(f"{shard.file}: record {number} ({name}): crc32 differs.")
    if len(bad) > _MAX_NAMED:
        problems.append(f"{shard.file}: {len(bad) - _MAX_NAMED} more records differ.")
    if is_full and digest.hexdigest() != shard.sha256 and not bad:
        problems.append(f"{shard.file}: sha256 differs.")
    return problems
