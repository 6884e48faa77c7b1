"""What is to be done for one column of a packed cache: begin, go on, append, repair, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsrface.data.cache.damage import content_problem, shard_problem
from dsrface.data.cache.manifest import Manifest, Part, Segment, read_manifest
from dsrface.data.cache.table import Table, names_sha256, read_table
from dsrface.data.cache.writer import remove_cache
from dsrface.data.names import PackedStrings
from dsrface.data.stored import MANIFEST, PLAN, changed_inputs, differences, stale

Action = Literal["none", "begin", "resume", "append", "repair"]


@dataclass(frozen=True)
class Wanted:
    """What a column shall hold.

    Args:
        column: `outputs` or `hr`.
        shape: Of a record.
        parts: Name and images of each split.
        inputs: uint8 [N, 16], hash of each input file, over all parts.
        input_stats: Per part, a hash over size and time of its input files.
        key: Everything that changes pixels.
        augment: What changes the pixels of variants after the first.
        num_variants: Variants of each image.
        shard_images: Records a shard, for a new cache.
        order_seed: Order on disk, of a new cache.
        info: Facts to read; not part of the key.
    """

    column: str
    shape: tuple[int, int, int]
    parts: Sequence[tuple[str, PackedStrings]]
    inputs: NDArray[np.uint8]
    input_stats: Mapping[str, str] = field(default_factory=dict)
    key: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(default_factory=dict)
    num_variants: int = 1
    shard_images: int = 8192
    order_seed: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What to do.

    Args:
        action: `none` when the column is complete as it is.
        plan: The manifest to be, without shards; for `none` the manifest itself.
        table: Its images.
        reason: One line, human-readable.
    """

    action: Action
    plan: Manifest
    table: Table
    reason: str


@dataclass(frozen=True)
class HeldColumn:
    """What a column's folder holds.

    Args:
        manifest: Its manifest, or its plan.
        table: Its images.
        is_plan: An earlier run was interrupted.
    """

    manifest: Manifest
    table: Table
    is_plan: bool


@dataclass(frozen=True)
class PackedColumn:
    """One column's folder and what it shall hold; see `data.stored.Stored`.

    Args:
        folder: The cache folder; need not exist.
        wanted: What it shall hold.
    """

    folder: Path
    wanted: Wanted

    def look(self) -> HeldColumn | None:
        """Read the plan of an interrupted run, else the manifest."""
        has_manifest, has_plan = (self.folder / MANIFEST).exists(), (self.folder / PLAN).exists()
        if not has_manifest and not has_plan:
            return None
        base = read_manifest(self.folder, name=PLAN if has_plan else MANIFEST)
        return HeldColumn(base, read_table(self.folder, base), has_plan)

    def stale_reasons(self, held: HeldColumn) -> list[str]:
        """Compare keys, and the inputs of the images that both have."""
        return _stale_reasons(held.manifest, held.table, self.wanted)

    def remove(self) -> None:
        """Delete the cache."""
        remove_cache(self.folder)

    def begin(self, reason: str) -> Decision:
        """Plan every record, and write the table."""
        return _begin(self.folder, self.wanted, reason)

    def go_on(self, held: HeldColumn) -> Decision:
        """Append what is new; else do the rest of an interrupted run, or rebuild damaged shards."""
        folder, base, table = self.folder, held.manifest, held.table
        if held.is_plan:  # what an earlier run has not written is made now, so its images must be there
            _refuse_gone(folder, table, self.wanted)
        grown = _grow(folder, base, table, self.wanted)
        if grown is not None:
            return grown
        if held.is_plan:
            return Decision("resume", replace(base, shards=()), table, "an earlier run was interrupted")
        for shard in base.shards:
            problem = shard_problem(folder, shard, record_bytes=base.record_bytes)
            problem = problem or content_problem(folder, shard)
            if problem is not None:
                _refuse_gone(folder, table, self.wanted)
                return Decision("repair", replace(base, shards=()), table, problem)
        return Decision("none", base, table, "complete")


def _begin(folder: Path, wanted: Wanted, reason: str) -> Decision:
    folder.mkdir(parents=True, exist_ok=True)
    names = PackedStrings.from_list(name for _, part in wanted.parts for name in part)
    table = Table.build(names, wanted.inputs)
    parts, first = [], 0
    for name, part in wanted.parts:
        parts.append(Part(name, first, len(part), names_sha256(part)))
        first += len(part)
    plan = Manifest(
        column=wanted.column,
        shape=wanted.shape,
        num_images=len(table),
        num_variants=wanted.num_variants,
        shard_images=wanted.shard_images,
        order_seed=wanted.order_seed,
        key=_key(wanted, wanted.num_variants),
        table=table.write(folder),
        segments=(Segment(0, len(table), 0, wanted.num_variants),),
        parts=tuple(parts),
        info=_info(wanted),
    )
    return Decision("begin", plan, table, reason)


def _grow(folder: Path, base: Manifest, table: Table, wanted: Wanted) -> Decision | None:
    """Return the plan with new images or further variants appended, or None when there are none."""
    known = set(table.names)
    flat = [(name, item) for name, part in wanted.parts for item in part]
    new = [position for position, (_, item) in enumerate(flat) if item not in known]
    more_variants = max(0, wanted.num_variants - base.num_variants)
    if not new and not more_variants:
        return None
    plan, reasons = base, []
    if new:
        parts = list(base.parts)
        first = base.num_images
        for name in dict.fromkeys(flat[position][0] for position in new):
            names = PackedStrings.from_list(
                flat[position][1] for position in new if flat[position][0] == name
            )
            parts.append(Part(name, first, len(names), names_sha256(names)))
            first += len(names)
        joined = PackedStrings.from_list([*table.names, *(flat[position][1] for position in new)])
        table = Table.build(joined, np.concatenate([table.inputs, wanted.inputs[new]]))
        segment = Segment(base.num_images, len(new), 0, base.num_variants)
        plan = replace(plan, segments=(*plan.segments, segment), parts=tuple(parts), num_images=len(table))
        reasons.append(f"{len(new)} new images")
    if more_variants:
        _refuse_gone(folder, table, wanted)
        segment = Segment(0, plan.num_images, base.num_variants, more_variants)
        plan = replace(plan, segments=(*plan.segments, segment), num_variants=wanted.num_variants)
        reasons.append(f"{more_variants} further variants")
    key = dict(base.key) if base.num_variants > 1 else _key(wanted, plan.num_variants)
    plan = replace(plan, shards=(), key=key, table=table.write(folder), info=_info(wanted, base))
    return Decision("append", plan, table, " and ".join(reasons))


def _stale_reasons(base: Manifest, table: Table, wanted: Wanted) -> list[str]:
    old, new = dict(base.key), dict(wanted.key)
    if base.num_variants > 1 and wanted.num_variants > 1:
        new["augment"] = dict(wanted.augment)
    else:
        old.pop("augment", None)
    old["column"], new["column"] = base.column, wanted.column
    reasons = differences(old, new)
    position = {name: number for number, name in enumerate(table.names)}
    changed = [
        name
        for row, name in enumerate(item for _, part in wanted.parts for item in part)
        if name in position and not np.array_equal(table.inputs[position[name]], wanted.inputs[row])
    ]
    return reasons + changed_inputs(changed)


def _refuse_gone(folder: Path, table: Table, wanted: Wanted) -> None:
    """Refuse to write records of images that are no longer there; those already written do no harm."""
    present = {item for _, part in wanted.parts for item in part}
    gone = [name for name in table.names if name not in present]
    if gone:
        raise stale([f"inputs: {len(gone)} images are gone, first {gone[0]!r}"], folder)


def _key(wanted: Wanted, num_variants: int) -> dict[str, Any]:
    return {**wanted.key, **({"augment": dict(wanted.augment)} if num_variants > 1 else {})}


def _info(wanted: Wanted, base: Manifest | None = None) -> dict[str, Any]:
    kept = dict(base.info) if base is not None else {}
    return {**wanted.info, **kept, "input_stats": dict(wanted.input_stats)}
