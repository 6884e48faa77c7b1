"""Make one column of a packed cache."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from dsrface import __version__
from dsrface.commands.shared.outputs.jobs import Job
from dsrface.commands.shared.outputs.pipeline import write_column
from dsrface.commands.shared.outputs.setting import (
    PIPELINE_VERSION,
    FolderResult,
    Setting,
    locked,
    num_threads,
)
from dsrface.data.augment import Geometry, geometry_of
from dsrface.data.cache import format as fmt
from dsrface.data.cache import png_tree
from dsrface.data.cache.build import Decision, Wanted, decide
from dsrface.data.cache.inputs import RowDataset
from dsrface.data.cache.table import Table, hash_inputs, stat_sha256
from dsrface.data.cache.writer import ColumnWriter, foreign_entry
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceSplit
from dsrface.errors import RunError
from dsrface.events import Note, Progress
from dsrface.types import HIGH_SIZE_PX

_SHAPE = (HIGH_SIZE_PX, HIGH_SIZE_PX, 3)
_HR_BATCH = 64


def run_column(job: Job, setting: Setting, column: str) -> FolderResult:
    """Bring one column, `outputs` or `hr`, up to what this run calls for.

    Raises:
        DsrfaceError: stale, locked, unreadable images, no room on the disk.
    """
    is_hr = column == "hr"
    folder = job.hr_column_dir if is_hr else job.outputs_dir
    source = job.high_dir if is_hr else job.low_dir
    assert folder is not None
    assert source is not None
    with locked(folder, setting.ranks):
        decision: Decision | None = None
        with setting.ranks.fail_together():
            if setting.ranks.is_main:
                decision = _decide(job, setting, column, folder, source)
        decision = setting.ranks.share(decision)
        assert decision is not None
        setting.emit(Note(f"{folder}: {decision.action} ({decision.reason})"))
        if decision.action == "none":
            return FolderResult(str(folder), "none", decision.reason)
        return _write(job, setting, decision, folder, source, is_hr=is_hr)


def _decide(job: Job, setting: Setting, column: str, folder: Path, source: Path) -> Decision:
    config = setting.config
    if column == "outputs" and png_tree.is_tree_here(folder):
        raise RunError(
            "The folder holds a PNG tree, not a cache: format differs, png -> cache.",
            id="output-other-format",
            where=folder,
            hint="Add --format png, or delete the folder.",
        )
    inputs = hash_inputs(source, job.names, num_threads=num_threads())
    key = (
        setting.key()
        if column == "outputs"
        else {"size_px": HIGH_SIZE_PX, "pipeline_version": PIPELINE_VERSION}
    )
    wanted = Wanted(
        column=column,
        shape=_SHAPE,
        parts=job.parts,
        inputs=inputs,
        input_stats={name: stat_sha256(source, names) for name, names in job.parts},
        key=key,
        augment=_augment(job, setting, column),
        num_variants=config.variants,
        shard_images=config.storage.shard_images,
        order_seed=config.storage.order_seed,
        info=setting.info() if column == "outputs" else {"dsrface": __version__},
    )
    _refuse_foreign(folder)
    decision = decide(folder, wanted, force=config.force)
    if column == "outputs" and decision.action == "begin":
        info = {**decision.plan.info, "batch_size": setting.batch_size}
        decision = replace(decision, plan=replace(decision.plan, info=info))
    return decision


def _write(
    job: Job, setting: Setting, decision: Decision, folder: Path, source: Path, *, is_hr: bool
) -> FolderResult:
    ranks, plan = setting.ranks, decision.plan
    writer: ColumnWriter | None = None
    numbers: list[int] = []
    with ranks.fail_together():
        if ranks.is_main:
            writer = ColumnWriter.open(folder, plan)
            numbers = [shard.number for shard in writer.missing()]
    numbers = ranks.share(numbers)
    writer = writer or ColumnWriter(folder, plan, {})
    mine = set(numbers[ranks.rank :: ranks.world_size])
    shards = [shard for shard in plan.planned_shards() if shard.number in mine]
    dataset = _dataset(job, decision.table, plan, source, setting, is_hr=is_hr)
    batch_size = _HR_BATCH if is_hr else int(plan.info.get("batch_size", _HR_BATCH))
    reading = setting.reading(dataset, batch_size)
    total = sum(len(shard.rows) for shard in shards)
    label = "HR column" if is_hr else setting.label
    seconds = 0.0
    network = contextlib.nullcontext() if is_hr else setting.upscaler()
    with ranks.fail_together(), network as upscale:
        seconds = write_column(
            writer,
            shards,
            reading,
            upscale,
            progress=lambda done: setting.emit(Progress(label, done, total)),
        )
    with ranks.fail_together():
        if ranks.is_main:
            writer.finish()
    made = sum(len(shard.rows) for shard in plan.planned_shards() if shard.number in set(numbers))
    return FolderResult(str(folder), decision.action, decision.reason, made, made / seconds if made else 0.0)


def _dataset(
    job: Job, table: Table, plan: fmt.Manifest, source: Path, setting: Setting, *, is_hr: bool
) -> RowDataset:
    augmented = None
    if plan.num_variants > 1:
        assert job.high_dir is not None
        settings = dict(plan.key["augment"])
        seed = int(settings.pop("seed"))
        degradation = job.degradation if settings.pop("kind") == "moved" else None
        settings.pop("degradation", None)
        low_folders = {setting.vlr_size: job.low_dir.name}
        labels = torch.from_numpy(table.labels)
        split = FaceSplit("all", job.high_dir.parent, table.names, labels, table.persons, low_folders)
        augmented = PairDataset(
            split, inputs=job.low_dir, augment=Geometry(**settings), seed=seed, degradation=degradation
        )
    size_px = HIGH_SIZE_PX if is_hr else setting.vlr_size
    return RowDataset(source, table.names, size_px=size_px, augmented=augmented, is_high=is_hr)


def _augment(job: Job, setting: Setting, column: str) -> dict[str, Any]:
    """Return what makes variants differ; for HR the same with every VLR size: they share the column."""
    geometry = asdict(geometry_of(setting.config.augment))
    kind = "moved" if job.degradation is not None else "mirrored"
    degradation = job.degradation.to_dict() if job.degradation is not None and column == "outputs" else None
    return {**geometry, "seed": setting.config.seed, "kind": kind, "degradation": degradation}


def _refuse_foreign(folder: Path) -> None:
    if (folder / fmt.MANIFEST).exists() or (folder / fmt.PLAN).exists():
        return
    foreign = foreign_entry(folder)
    if foreign is not None:
        raise RunError(
            f"The output folder holds something that is not a cache: {foreign!r}.",
            id="output-not-ours",
            where=folder,
            hint="Give another folder, move those files away, or write a PNG tree with --format png --force.",
        )
