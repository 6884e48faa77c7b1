"""Folders of stored outputs, found on the disk; free of torch, for a first look."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsrface.data.cache.manifest import FORMAT
from dsrface.data.outputs import png_tree
from dsrface.data.stored import MANIFEST, PLAN, formats
from dsrface.errors import RunError
from dsrface.runtime.command_line import quoted


def find_caches(path: Path) -> Iterator[Path]:
    """Yield the folders that hold a cache or a PNG tree; the images of a PNG tree are not entered."""
    for root, folders, files in os.walk(path):
        folders.sort()
        if (MANIFEST in files or PLAN in files) and _is_ours(Path(root), files):
            yield Path(root)
            folders.clear()


def check_caches(path: Path) -> None:
    """Make sure that a folder holds a cache or a PNG tree, or is one.

    Raises:
        RunError: it does not.
    """
    if next(find_caches(path), None) is None:
        is_part = path.is_file() and next(find_caches(path.parent), None) == path.parent
        raise RunError(
            "This is a file of a cache, not its folder." if is_part else "There is no cache here or below.",
            id="no-cache",
            where=path,
            hint=f"Did you mean {quoted(path.parent)}?"
            if is_part
            else "Make one: `dsrface precompute DATA --weights RUN`.",
        )


def _is_ours(folder: Path, files: Sequence[str]) -> bool:
    """Many programs write a manifest.json: dsrface's has its format or, when damaged, its files."""
    try:
        return bool(formats(folder) & {FORMAT, png_tree.FORMAT})
    except RunError:
        return png_tree.IMAGES in files or any(name.startswith("shard-") for name in files)
