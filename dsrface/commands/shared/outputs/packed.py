"""One column of a packed cache as a store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dsrface import __version__
from dsrface.commands.shared.outputs.context import PIPELINE_VERSION, PrecomputeContext
from dsrface.commands.shared.outputs.jobs import Job
from dsrface.commands.shared.outputs.pipeline import Reading, Upscaler, write_column
from dsrface.data.augment import Geometry, geometry_of
from dsrface.data.cache.build import Decision, PackedColumn, Wanted
from dsrface.data.cache.manifest import ShardPlan
from dsrface.data.cache.writer import ColumnWriter, foreign_entry
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceSplit
from dsrface.data.outputs import png_tree
from dsrface.data.outputs.rows import RowDataset
from dsrface.data.stored import MANIFEST, PLAN, decide
from dsrface.errors import RunError
from dsrface.types import HIGH_SIZE_PX

_SHAPE = (HIGH_SIZE_PX, HIGH_SIZE_PX, 3)
_HR_BATCH = 64
_HR_KEY = {"size_px": HIGH_SIZE_PX, "pipeline_version": PIPELINE_VERSION}


@dataclass(frozen=True)
class PackedStore:
    """The DSR outputs of a job, or its HR faces; units are shards.

    Args:
        job: What is read, and where it goes.
        context: What the run's folders share.
        is_hr: The HR column, whose records are the images as they are.
    """

    job: Job
    context: PrecomputeContext
    is_hr: bool = False

    @property
    def folder(self) -> Path:
        """The column's folder."""
        folder = self.job.hr_column_dir if self.is_hr else self.job.outputs_dir
        assert folder is not None
        return folder

    @property
    def label(self) -> str:
        """What is made."""
        return "HR column" if self.is_hr else self.context.label

    @property
    def _source(self) -> Path:
        source = self.job.high_dir if self.is_hr else self.job.low_dir
        assert source is not None
        return source

    def decide(self) -> Decision:
        """See `Store`.

        Raises:
            RunError: stale, of another format, or not written by dsrface.
        """
        job, context, config = self.job, self.context, self.context.config
        if not self.is_hr and png_tree.is_tree_here(self.folder):
            raise RunError(
                "The folder holds a PNG tree, not a cache: format differs, png -> cache.",
                id="output-other-format",
                where=self.folder,
                hint="Add --format png, or delete the folder.",
            )
        inputs = job.inputs(self._source)
        wanted = Wanted(
            column="hr" if self.is_hr else "outputs",
            shape=_SHAPE,
            parts=job.parts,
            inputs=inputs.hashes,
            input_stats=inputs.stats,
            key=_HR_KEY if self.is_hr else context.key(),
            augment=self._augment(),
            num_variants=config.variants,
            shard_images=config.storage.shard_images,
            order_seed=config.storage.order_seed,
            info={"dsrface": __version__} if self.is_hr else context.info(),
        )
        _refuse_foreign(self.folder)
        decision = decide(PackedColumn(self.folder, wanted), force=config.force)
        if not self.is_hr and decision.action == "begin":
            info = {**decision.plan.info, "batch_size": context.batch_size}
            decision = replace(decision, plan=replace(decision.plan, info=info))
        return decision

    def begin(self, plan: Decision) -> list[int]:
        """See `Store`."""
        return [shard.number for shard in ColumnWriter.open(self.folder, plan.plan).missing()]

    def rows(self, plan: Decision) -> tuple[RowDataset, int]:
        """See `Store`."""
        batch_size = _HR_BATCH if self.is_hr else int(plan.plan.info.get("batch_size", _HR_BATCH))
        size_px = HIGH_SIZE_PX if self.is_hr else self.context.vlr_size
        augmented = self._augmented(plan) if plan.plan.num_variants > 1 else None
        dataset = RowDataset(
            self._source, plan.table.names, size_px=size_px, augmented=augmented, is_high=self.is_hr
        )
        return dataset, batch_size

    def network(self) -> contextlib.AbstractContextManager[Upscaler | None]:
        """See `Store`."""
        return contextlib.nullcontext() if self.is_hr else self.context.upscaler()

    def write(
        self,
        plan: Decision,
        units: Sequence[int],
        reading: Reading,
        upscale: Upscaler | None,
        *,
        progress: Callable[[int], None],
    ) -> float:
        """See `Store`."""
        writer = ColumnWriter(self.folder, plan.plan, {})
        return write_column(writer, _shards(plan, units), reading, upscale, progress=progress)

    def num_images(self, plan: Decision, units: Sequence[int]) -> int:
        """See `Store`."""
        return sum(len(shard.rows) for shard in _shards(plan, units))

    def finish(self, plan: Decision) -> None:
        """See `Store`."""
        ColumnWriter(self.folder, plan.plan, {}).finish()

    def _augment(self) -> dict[str, Any]:
        """Return what makes variants differ; for HR the same with every VLR size: they share the column."""
        degradation = self.job.degradation
        return {
            **asdict(geometry_of(self.context.config.augment)),
            "seed": self.context.config.seed,
            "kind": "moved" if degradation is not None else "mirrored",
            "degradation": degradation.to_dict() if degradation is not None and not self.is_hr else None,
        }

    def _augmented(self, plan: Decision) -> PairDataset:
        """Return the pairs that variants after the first are drawn from."""
        job, table = self.job, plan.table
        assert job.high_dir is not None
        settings = dict(plan.plan.key["augment"])
        seed = int(settings.pop("seed"))
        degradation = job.degradation if settings.pop("kind") == "moved" else None
        settings.pop("degradation", None)
        low_folders = {self.context.vlr_size: job.low_dir.name}
        labels = torch.from_numpy(table.labels)
        split = FaceSplit("all", job.high_dir.parent, table.names, labels, table.persons, low_folders)
        return PairDataset(
            split, inputs=job.low_dir, augment=Geometry(**settings), seed=seed, degradation=degradation
        )


def _shards(plan: Decision, numbers: Sequence[int]) -> list[ShardPlan]:
    wanted = set(numbers)
    return [shard for shard in plan.plan.planned_shards() if shard.number in wanted]


def _refuse_foreign(folder: Path) -> None:
    if (folder / MANIFEST).exists() or (folder / PLAN).exists():
        return
    foreign = foreign_entry(folder)
    if foreign is not None:
        raise RunError(
            f"The output folder holds something that is not a cache: {foreign!r}.",
            id="output-not-ours",
            where=folder,
            hint="Give another folder, move those files away, or write a PNG tree with --format png --force.",
        )
