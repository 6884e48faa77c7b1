"""Open what `dsrface precompute` wrote, whichever format it has: one loader interface for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsrface.config.engine import LoaderConfig
from dsrface.data.cache.backends import Resident
from dsrface.data.cache.column import Column
from dsrface.data.cache.order import WindowOrder
from dsrface.data.cache.reader import PackedReader
from dsrface.data.cache.table import hash_inputs, stat_sha256
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceSplit
from dsrface.data.loaders import DEFAULTS, Loader, make_loader
from dsrface.data.native import NativeDataset
from dsrface.data.outputs import png_tree
from dsrface.data.outputs.given import check_holds, is_cache
from dsrface.data.samplers import EpochOrder, RankedSampler
from dsrface.data.stored import stale


def make_order(split: FaceSplit, outputs_dir: Path, *, seed: int) -> EpochOrder:
    """Return the order to give to a `BatchSampler` over these outputs.

    It does not depend on where the outputs will be kept: a rank with less free memory than the others, or a
    resumed run on a fuller machine, must see the same batches.

    Args:
        split: What will be read.
        outputs_dir: Folder that `dsrface precompute` wrote.
        seed: With the epoch it fixes the order.
    """
    if is_cache(outputs_dir):
        return WindowOrder(split, Column(outputs_dir), seed=seed)
    return EpochOrder(len(split), seed)


def open_outputs(
    split: FaceSplit,
    outputs_dir: Path,
    *,
    sampler: RankedSampler,
    size_px: int,
    has_twins: bool = True,
    device: str = "cpu",
    resident: Resident = "auto",
    num_workers: int = 0,
    settings: LoaderConfig = DEFAULTS,
    note: Callable[[str], None] | None = None,
) -> Loader | PackedReader:
    """Return batches of (DSR output, HR twin, label) for a split, from a packed cache or a PNG tree.

    A batch on the CPU is valid until the next is asked for.

    Args:
        split: Names and labels; it may be part of what the cache holds.
        outputs_dir: Folder that `dsrface precompute` wrote.
        sampler: Order of the batches, this rank's share of them.
        size_px: Side of the VLR images that the outputs were made from, to check that those are unchanged.
        has_twins: HR faces are the twins; else each output is its own.
        device: Where the batches will be used; `"cuda..."` gives pinned or resident batches.
        resident: Keep the whole cache on a CUDA device: when it fits, always, or never.
        num_workers: Worker processes for a PNG tree; a cache needs none.
        settings: How those workers start, read ahead and are waited for.
        note: Receives lines: which route was taken and why.

    Raises:
        UsageError, DataError: as `check_outputs`.
        RunError: no outputs, unfinished, stale, damaged, or of a newer schema.
    """
    say = note or (lambda _: None)
    check_outputs(split, outputs_dir)
    low_dir = split.low_dir(size_px) if size_px in split.low_folders else None
    if is_cache(outputs_dir):
        high, twins_dir = (None, split.high_dir) if has_twins else (outputs_dir, low_dir)
        cache = PackedReader(split, outputs_dir, sampler=sampler, high=high, device=device, resident=resident)
        for column, folder in zip(cache.columns, (low_dir, twins_dir), strict=True):
            check_column_fresh(column, split, folder, size_px=size_px)
        say(f"cache: {cache.choice.kind} ({cache.choice.reason})")
        return cache
    for line in _tree_notes(outputs_dir, split, low_dir, size_px=size_px, num_workers=num_workers):
        say(line)
    pairs = PairDataset(split, inputs=outputs_dir) if has_twins else NativeDataset(split, folder=outputs_dir)
    return make_loader(
        pairs, sampler, num_workers=num_workers, pin_memory=device.startswith("cuda"), settings=settings
    )


def _tree_notes(
    outputs_dir: Path, split: FaceSplit, low_dir: Path | None, *, size_px: int, num_workers: int
) -> Iterator[str]:
    """Make sure that a PNG tree is fresh as far as that is known, and yield what to say of it."""
    if png_tree.is_tree_here(outputs_dir):
        _check_tree_fresh(outputs_dir, split, low_dir, size_px=size_px)
    else:
        yield (
            f"{outputs_dir} has no manifest: it is unknown which weights or images its images were made from"
        )
    yield (
        f"PNG files, read by {num_workers} workers; `dsrface precompute --format cache` is many times faster"
    )


def check_outputs(split: FaceSplit, outputs_dir: Path) -> None:
    """Make sure that a folder holds a cache or every image of the split, before anything is read of it.

    Raises:
        UsageError: the folder is one of the data set's own.
        RunError: no such folder.
        DataError: no cache, and images of the split are missing.
    """
    check_holds(outputs_dir, split.names, [split.root])
    if not is_cache(outputs_dir):
        split.check_twins(outputs_dir)


def check_column_fresh(column: Column, split: FaceSplit, folder: Path | None, *, size_px: int) -> None:
    """Make sure that a column was made from the images that are in `folder` now.

    Sizes and times of the files are compared first; only when these differ, their contents. Without the
    folder there is nothing to compare with: a cache may be used without the images it was made from.

    Args:
        column: Outputs or HR.
        split: The images that will be used.
        folder: Where its inputs are; None when the data set has none.
        size_px: VLR size that the outputs should have been made from.

    Raises:
        RunError: stale, with the field that differs.
    """
    made_from = column.manifest.key.get("vlr_size", size_px)
    if made_from != size_px:
        raise stale([f"vlr_size: {made_from} -> {size_px}"], column.folder)
    if folder is None or not folder.is_dir():
        return
    known = column.manifest.info.get("input_stats", {}).get(split.name)
    if known == stat_sha256(folder, split.names):
        return
    # Part of a split: when the whole of it is unchanged, so is the part.
    if known == stat_sha256(folder, _names_of_part(column, split.name)):
        return
    found = hash_inputs(folder, split.names)
    changed = np.flatnonzero((column.table.inputs[column.rows_of(split)] != found).any(axis=1))
    if len(changed):
        first = split.names[int(changed[0])]
        raise stale(
            [f"inputs: {len(changed)} images have changed, first {first!r}"], column.folder, split=split.root
        )


def _names_of_part(column: Column, name: str) -> list[str]:
    parts = [part for part in column.manifest.parts if part.name == name]
    rows = [row for part in parts for row in range(part.first_row, part.first_row + part.num_rows)]
    return sorted(column.table.names[row] for row in rows)


def _check_tree_fresh(folder: Path, split: FaceSplit, low_dir: Path | None, *, size_px: int) -> None:
    manifest: Mapping[str, Any] = png_tree.read_tree_manifest(folder)
    made_from = manifest["key"].get("vlr_size", size_px)
    if made_from != size_px:
        raise stale([f"vlr_size: {made_from} -> {size_px}"], folder)
    if low_dir is None or not low_dir.is_dir():
        return
    if manifest.get("input_stats", {}).get(split.name) == stat_sha256(low_dir, split.names):
        return
    known = {row["name"]: row["input"] for row in png_tree.read_images(folder)}
    hashes = hash_inputs(low_dir, split.names)
    for name, digest in zip(split.names, hashes, strict=True):
        if name in known and known[name] != bytes(digest).hex():
            raise stale([f"inputs: {name!r} has changed"], folder, split=split.root)
