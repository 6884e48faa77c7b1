"""The index of a shard: which image each record is, and the CRC-32 of each.

Little-endian int64 [count] rows, then uint32 [count] CRCs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.data.cache.manifest import Shard
from dsrface.data.stored import damaged


def index_bytes(rows: NDArray[np.int64], crcs: NDArray[np.uint32]) -> bytes:
    """Return the content of an `.idx` file."""
    return rows.astype("<i8").tobytes() + crcs.astype("<u4").tobytes()


def read_index(folder: Path, shard: Shard) -> tuple[NDArray[np.int64], NDArray[np.uint32], bytes]:
    """Return rows, CRCs and the raw bytes of an `.idx` file of the right size.

    Raises:
        RunError: missing or of another size.
    """
    path = folder / shard.index_file
    try:
        raw = path.read_bytes()
    except OSError:
        raise damaged(f"{shard.index_file} is missing.", path) from None
    if len(raw) != shard.count * 12:
        raise damaged(f"{shard.index_file}: size differs, {shard.count * 12} -> {len(raw)} bytes.", path)
    rows = np.frombuffer(raw, "<i8", shard.count).astype(np.int64)
    crcs = np.frombuffer(raw, "<u4", shard.count, offset=shard.count * 8).astype(np.uint32)
    return rows, crcs, raw
