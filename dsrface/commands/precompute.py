"""`dsrface precompute`: run a DSR once over a data set or a folder, and keep what it puts out."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsrface import __version__
from dsrface.commands.columns import Reading, Upscaler, as_they_are, png_writer, write_column, write_tree
from dsrface.commands.workers import choose_workers
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.augment import Geometry
from dsrface.data.cache import format as fmt
from dsrface.data.cache import png_tree
from dsrface.data.cache.build import Decision, Wanted, decide
from dsrface.data.cache.inputs import RowDataset
from dsrface.data.cache.table import Table, hash_inputs, stat_sha256
from dsrface.data.cache.verify import verify_cache
from dsrface.data.cache.writer import ColumnWriter, foreign_entry
from dsrface.data.datasets import PairDataset
from dsrface.data.decode import walk_images
from dsrface.data.degrade import Degradation
from dsrface.data.layout import FaceSplit, open_data
from dsrface.data.names import PackedStrings
from dsrface.engine.batch_size import choose_batch_size
from dsrface.engine.distributed import Ranks, process_group
from dsrface.engine.events import Event, Note, Progress
from dsrface.errors import EXIT_ANSWER_IS_NO, DataError, DsrfaceError, RunError, UsageError
from dsrface.models.weights import LoadedModel, load_dsr
from dsrface.runtime.cpu import effective_cores
from dsrface.runtime.devices import Device, choose_device
from dsrface.runtime.locks import exclusive
from dsrface.runtime.threads import limit_torch_threads
from dsrface.types import HIGH_SIZE_PX

# Raised by hand when the code changes what comes out for the same weights, settings and images.
PIPELINE_VERSION = 1
_SHAPE = (HIGH_SIZE_PX, HIGH_SIZE_PX, 3)
_HR_BATCH = 64

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class FolderResult:
    """What was done with one output folder.

    Args:
        folder: Where.
        action: begin, resume, append, repair, none, or verify.
        reason: Why.
        num_images: Images that were made now.
        images_per_s: Rate of the pipeline; 0 when nothing was to do.
        problems: Damage that `--verify` found.
    """

    folder: str
    action: str
    reason: str
    num_images: int = 0
    images_per_s: float = 0.0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrecomputeResult:
    """What came of it.

    Args:
        summary: The result in one line.
        location: The output folder.
        next_command: What to run next.
        folders: Each output folder.
        exit_code: 1 when `--verify` found damage.
    """

    summary: str
    location: str
    next_command: str
    folders: tuple[FolderResult, ...]
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for --json."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """One output folder: all splits that share it.

    Args:
        low_dir: Folder of the VLR images.
        outputs_dir: Where the outputs go.
        parts: Name and images of each split.
        high_dir: Folder of the HR twins; None for a bare folder.
        hr_column_dir: Where a cache keeps them.
        degradation: How VLR images are made from HR ones; None when unknown.
    """

    low_dir: Path
    outputs_dir: Path
    parts: tuple[tuple[str, PackedStrings], ...]
    high_dir: Path | None = None
    hr_column_dir: Path | None = None
    degradation: Degradation | None = None

    @property
    def names(self) -> PackedStrings:
        """All images, in the order of the parts."""
        return PackedStrings.from_list(name for _, part in self.parts for name in part)


@dataclass(frozen=True)
class Setting:
    """What every column of this run shares."""

    config: PrecomputeConfig
    loaded: LoadedModel
    device: Device
    ranks: Ranks
    emit: Emit

    @property
    def vlr_size(self) -> int:
        """Side of the images that the DSR takes, in pixels."""
        return int(self.loaded.config["vlr_size"])


def run(config: PrecomputeConfig, *, emit: Emit) -> PrecomputeResult:
    """Write all outputs that are missing.

    Args:
        config: Complete configuration.
        emit: Takes the events.

    Raises:
        DsrfaceError: stale outputs, another writer, no room on the disk, unreadable images or weights.
    """
    device = choose_device(config.device, amp=config.amp)
    loaded = load_dsr(config.weights, device=device.torch_name)
    jobs = _jobs(config, int(loaded.config["vlr_size"]))
    if config.verify:
        return _verify(config, jobs, emit)
    with process_group(device) as ranks:
        setting = Setting(config, loaded, device, ranks, emit if ranks.is_main else _silent)
        setting.emit(Note(f"device: {device.reason}"))
        limit_torch_threads(0)
        folders = [result for job in jobs for result in _run_job(job, setting)]
    return _result(config, setting, folders)


def _jobs(config: PrecomputeConfig, size_px: int) -> list[Job]:
    if config.data is None:
        assert config.input is not None
        assert config.output is not None
        if not config.input.is_dir():
            raise DataError("The input folder does not exist.", id="folder-missing", where=config.input)
        names = PackedStrings.from_list(walk_images(config.input))
        if not len(names):
            raise DataError("The input folder holds no images.", id="empty-split", where=config.input)
        return [Job(config.input, config.output, (("", names),))]
    data = open_data(config.data, seed=0)
    by_folder: dict[Path, list[FaceSplit]] = {}
    for split in data.splits.values():
        by_folder.setdefault(split.outputs_dir(size_px), []).append(split)
    return [
        Job(
            splits[0].low_dir(size_px),
            folder,
            tuple((split.name, split.names) for split in splits),
            splits[0].high_dir,
            splits[0].hr_column_dir,
            data.degradation(size_px),
        )
        for folder, splits in by_folder.items()
    ]


def _run_job(job: Job, setting: Setting) -> list[FolderResult]:
    if setting.config.format == "png":
        return [_run_png(job, setting)]
    results = [_run_column(job, setting, "outputs")]
    if job.high_dir is not None:
        results.append(_run_column(job, setting, "hr"))
    return results


# ---- packed cache -------------------------------------------------------------------------------------------------


def _run_column(job: Job, setting: Setting, column: str) -> FolderResult:
    is_hr = column == "hr"
    folder = job.hr_column_dir if is_hr else job.outputs_dir
    source = job.high_dir if is_hr else job.low_dir
    assert folder is not None
    assert source is not None
    with _locked(folder, setting.ranks):
        decision: Decision | None = None
        with _together(setting.ranks):
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
    inputs = hash_inputs(source, job.names, num_threads=_threads())
    key = (
        _key(setting)
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
        info=_info(setting) if column == "outputs" else {"dsrface": __version__},
    )
    _refuse_foreign(folder)
    decision = decide(folder, wanted, force=config.force)
    if column == "outputs" and decision.action == "begin":
        info = {**decision.plan.info, "batch_size": _batch_size(setting)}
        decision = replace(decision, plan=replace(decision.plan, info=info))
    return decision


def _write(
    job: Job, setting: Setting, decision: Decision, folder: Path, source: Path, *, is_hr: bool
) -> FolderResult:
    ranks, plan = setting.ranks, decision.plan
    writer: ColumnWriter | None = None
    numbers: list[int] = []
    with _together(ranks):
        if ranks.is_main:
            writer = ColumnWriter.open(folder, plan)
            numbers = [shard.number for shard in writer.missing()]
    numbers = ranks.share(numbers)
    writer = writer or ColumnWriter(folder, plan, {})
    mine = set(numbers[ranks.rank :: ranks.world_size])
    shards = [shard for shard in fmt.plan_shards_of(plan) if shard.number in mine]
    dataset = _dataset(job, decision.table, plan, source, setting, is_hr=is_hr)
    batch_size = _HR_BATCH if is_hr else int(plan.info.get("batch_size", _HR_BATCH))
    reading = _reading(setting, dataset, batch_size)
    total = sum(len(shard.rows) for shard in shards)
    label = "HR column" if is_hr else f"DSR outputs {setting.vlr_size}x{setting.vlr_size}"
    process = as_they_are if is_hr else Upscaler(setting.loaded.model, setting.device)
    seconds = 0.0
    with _together(ranks, setting.device):
        seconds = write_column(
            writer,
            shards,
            reading,
            process,
            progress=lambda done: setting.emit(Progress(label, done, total)),
        )
    with _together(ranks):
        if ranks.is_main:
            writer.finish()
    rate = total * ranks.world_size / seconds if total else 0.0
    return FolderResult(str(folder), decision.action, decision.reason, total, rate)


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
        split = FaceSplit(
            "all", job.high_dir.parent, table.names, torch.from_numpy(table.labels), table.persons, {}, 0
        )
        augmented = PairDataset(
            split, inputs=job.low_dir, augment=Geometry(**settings), seed=seed, degradation=degradation
        )
    size_px = HIGH_SIZE_PX if is_hr else setting.vlr_size
    return RowDataset(source, table.names, size_px=size_px, augmented=augmented, is_high=is_hr)


def _augment(job: Job, setting: Setting, column: str) -> dict[str, Any]:
    """Return what makes variants differ; for HR the same with every VLR size, so that they share the column."""
    geometry = asdict(Geometry(**setting.config.augment.model_dump()))
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


def _key(setting: Setting) -> dict[str, Any]:
    return {
        "dsr_sha256": setting.loaded.sha256,
        "vlr_size": setting.vlr_size,
        "size_px": HIGH_SIZE_PX,
        "amp": setting.device.amp,
        "rounding": "clamp to [0, 1], times 255, half to even",
        "pipeline_version": PIPELINE_VERSION,
    }


def _info(setting: Setting) -> dict[str, Any]:
    return {
        "dsrface": __version__,
        "torch": torch.__version__,
        "device": setting.device.kind,
        "dsr": str(setting.loaded.config.get("arch", "")),
    }


# ---- PNG tree -----------------------------------------------------------------------------------------------------


def _run_png(job: Job, setting: Setting) -> FolderResult:
    ranks, folder = setting.ranks, job.outputs_dir
    with _locked(folder, ranks):
        plan: png_tree.PngPlan | None = None
        batch_size = 0
        with _together(ranks):
            if ranks.is_main:
                plan = _decide_png(job, setting)
                batch_size = int(plan.header["info"].get("batch_size", 0)) or _batch_size(setting)
                if plan.action != "none":
                    plan = replace(
                        plan,
                        header={**plan.header, "info": {**plan.header["info"], "batch_size": batch_size}},
                    )
                    png_tree.begin_png(plan)
        plan, batch_size = ranks.share((plan, batch_size))
        assert plan is not None
        setting.emit(Note(f"{folder}: {plan.action} ({plan.reason})"))
        if plan.action == "none":
            return FolderResult(str(folder), "none", plan.reason)
        mine = plan.todo[ranks.rank :: ranks.world_size]
        dataset = RowDataset(job.low_dir, job.names, size_px=setting.vlr_size)
        reading = _reading(setting, dataset, batch_size)
        label = f"DSR outputs {setting.vlr_size}x{setting.vlr_size}"
        seconds = 0.0
        with _together(ranks, setting.device):
            seconds = write_tree(
                plan.names,
                mine,
                png_writer(folder, num_threads=_threads()),
                reading,
                Upscaler(setting.loaded.model, setting.device),
                progress=lambda done: setting.emit(Progress(label, done, len(mine))),
            )
        with _together(ranks):
            if ranks.is_main:
                png_tree.finish_png(plan)
        rate = len(mine) * ranks.world_size / seconds if mine else 0.0
        return FolderResult(str(folder), plan.action, plan.reason, len(mine), rate)


def _decide_png(job: Job, setting: Setting) -> png_tree.PngPlan:
    return png_tree.decide_png(
        job.outputs_dir,
        names=job.names,
        inputs=hash_inputs(job.low_dir, job.names, num_threads=_threads()),
        input_stats={name: stat_sha256(job.low_dir, names) for name, names in job.parts},
        key=_key(setting),
        info=_info(setting),
        force=setting.config.force,
    )


# ---- both ---------------------------------------------------------------------------------------------------------


def _batch_size(setting: Setting) -> int:
    if isinstance(setting.config.batch_size, int):
        return setting.config.batch_size
    size = setting.vlr_size
    upscale = Upscaler(setting.loaded.model, setting.device)
    images = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    choice = choose_batch_size(
        lambda number: upscale(images.expand(number, -1, -1, -1).contiguous())(), device=setting.device
    )
    setting.emit(Note(f"batch size: {choice.reason}"))
    return choice.batch_size


def _reading(setting: Setting, dataset: RowDataset, batch_size: int) -> Reading:
    workers = setting.config.workers
    if workers == "auto" and setting.device.kind == "cpu":
        # The network keeps every core busy, and small pictures cost next to nothing beside it.
        workers = 0
        setting.emit(Note("workers: auto -> 0 (the DSR on the CPU is the bottleneck; threads read ahead)"))
    number = choose_workers(workers, dataset, batch_size=batch_size, ranks=setting.ranks, emit=setting.emit)
    return Reading(dataset, batch_size, number, _threads())


def _threads() -> int:
    return max(1, min(8, effective_cores().effective))


@contextlib.contextmanager
def _locked(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the folder's lock in rank 0; the others work under it."""
    with contextlib.ExitStack() as stack:
        with _together(ranks):
            if ranks.is_main:
                stack.enter_context(exclusive(folder / fmt.LOCK, what="output folder"))
        yield


@contextlib.contextmanager
def _together(ranks: Ranks, device: Device | None = None) -> Iterator[None]:
    """Let an error of any rank end the block in all of them, so that none waits for one that has given up."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as caught:  # noqa: BLE001 - raised again below, after the others know
        error = caught
    if not ranks.is_distributed:
        if error is not None:
            raise error
        return
    where = torch.device(device.torch_name if device is not None else _collective_device())
    failed = ranks.any(int(error is not None), where)
    if error is not None:
        raise error
    if failed:
        raise RunError("Another rank failed; its message is above.", id="other-rank-failed")


def _collective_device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"


def _verify(config: PrecomputeConfig, jobs: list[Job], emit: Emit) -> PrecomputeResult:
    folders = []
    for job in jobs:
        targets = (
            [job.outputs_dir]
            if config.format == "png" or job.hr_column_dir is None
            else [job.outputs_dir, job.hr_column_dir]
        )
        for folder in targets:
            if png_tree.is_tree_here(folder):
                count, problems = png_tree.verify_tree(folder)
            else:
                found = verify_cache(folder, progress=_verify_progress(folder, emit))
                count, problems = found.num_records, found.problems
            folders.append(FolderResult(str(folder), "verify", f"{count} images read", 0, 0.0, problems))
    problems = [problem for folder in folders for problem in folder.problems]
    summary = f"All bytes are as they were written ({len(folders)} folders)."
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        summary = f"{len(problems)} problems: " + " ".join(problems[:5]) + more
    return PrecomputeResult(
        summary,
        str(jobs[0].outputs_dir),
        "Delete the damaged files and run the same command without --verify." if problems else "",
        tuple(folders),
        EXIT_ANSWER_IS_NO if problems else 0,
    )


def _verify_progress(folder: Path, emit: Emit) -> Callable[[int, int], None]:
    return lambda done, total: emit(Progress(f"verify {folder.name}", done, total))


def _result(config: PrecomputeConfig, setting: Setting, folders: list[FolderResult]) -> PrecomputeResult:
    made = [folder for folder in folders if folder.num_images]
    if not made:
        summary = "Nothing to do: every output is there, made by these weights, settings and images."
    else:
        summary = "; ".join(
            f"{Path(item.folder).parent.name}/{Path(item.folder).name}: {item.action}, {item.num_images} images, "
            f"{item.images_per_s:.0f}/s"
            for item in made
        )
    location = folders[0].folder
    if config.data is None:
        following = f"ls {shlex.quote(location)}"
    else:
        following = (
            f"dsrface finetune {shlex.quote(str(config.data))} --vlr-size {setting.vlr_size} "
            f"--dsr-outputs {shlex.quote(location)}"
        )
    return PrecomputeResult(summary, location, following, tuple(folders))


def _silent(event: Event) -> None:
    del event
