"""What can be wrong with the files of a packed cache: missing, truncated, grown, or other bytes."""

from __future__ import annotations

import os
from pathlib import Path

from dsrface.data.cache.manifest import Manifest, Shard
from dsrface.data.stored import MANIFEST, damaged, short
from dsrface.runtime.files import sha256_file


def check_files(folder: Path, manifest: Manifest) -> None:
    """Check that every shard is there and has its size, and that all that was planned is listed.

    Raises:
        RunError: the first file that is missing, truncated or grown, with both sizes.
    """
    if len(manifest.shards) != manifest.num_shards:
        raise damaged(
            f"num_shards differs: {manifest.num_shards} planned, {len(manifest.shards)} listed.",
            folder / MANIFEST,
        )
    if sum(shard.count for shard in manifest.shards) != manifest.num_records:
        raise damaged("num_records differs from the sum over the shards.", folder / MANIFEST)
    for shard in manifest.shards:
        problem = shard_problem(folder, shard, record_bytes=manifest.record_bytes)
        if problem is not None:
            raise damaged(problem, folder / shard.file)


def shard_problem(folder: Path, shard: Shard, *, record_bytes: int) -> str | None:
    """Return what is wrong with a shard's files by their sizes, or None."""
    expected = {shard.file: shard.count * record_bytes, shard.index_file: shard.count * 12}
    for name, num_bytes in expected.items():
        try:
            found = os.stat(folder / name).st_size
        except OSError:
            return f"{name} is missing."
        if found != num_bytes:
            verb = "truncated" if found < num_bytes else "grown"
            return f"{name} is {verb}: size differs, {num_bytes} -> {found} bytes."
    return None


def content_problem(folder: Path, shard: Shard) -> str | None:
    """Return what is wrong with the bytes of a shard whose sizes are right, or None."""
    expected = {shard.file: shard.sha256, shard.index_file: shard.index_sha256}
    for name, digest in expected.items():
        found = sha256_file(folder / name)
        if found != digest:
            return f"{name} is damaged: sha256 differs, {short(digest)} -> {short(found)}."
    return None
