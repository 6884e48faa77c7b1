"""A tree of PNG files as a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsrface.commands.shared.outputs.context import PrecomputeContext
from dsrface.commands.shared.outputs.jobs import Job, num_threads
from dsrface.commands.shared.outputs.pipeline import Reading, Upscaler, write_tree
from dsrface.data.outputs import png_tree
from dsrface.data.outputs.png_tree import PngPlan, PngTree
from dsrface.data.outputs.rows import RowDataset
from dsrface.data.stored import decide


@dataclass(frozen=True)
class PngStore:
    """The DSR outputs of a job, one file an image; units are images.

    Args:
        job: What is read, and where it goes.
        context: What the run's folders share.
    """

    job: Job
    context: PrecomputeContext

    @property
    def folder(self) -> Path:
        """Root of the tree."""
        return self.job.outputs_dir

    @property
    def label(self) -> str:
        """What is made."""
        return self.context.label

    def decide(self) -> PngPlan:
        """See `Store`.

        Raises:
            RunError: stale, of another format, or not written by dsrface.
        """
        job, context = self.job, self.context
        inputs = job.inputs(job.low_dir)
        tree = PngTree(self.folder, job.names, inputs.hashes, inputs.stats, context.key(), context.info())
        plan = decide(tree, force=context.config.force)
        if plan.action == "none":
            return plan
        info = plan.header["info"]
        batch_size = int(info.get("batch_size", 0)) or context.batch_size
        return replace(plan, header={**plan.header, "info": {**info, "batch_size": batch_size}})

    def begin(self, plan: PngPlan) -> list[int]:
        """See `Store`."""
        png_tree.begin_png(plan)
        return plan.todo

    def rows(self, plan: PngPlan) -> tuple[RowDataset, int]:
        """See `Store`."""
        dataset = RowDataset(self.job.low_dir, self.job.names, size_px=self.context.vlr_size)
        return dataset, int(plan.header["info"]["batch_size"])

    def network(self) -> Upscaler:
        """See `Store`."""
        return self.context.upscaler()

    def write(
        self,
        plan: PngPlan,
        units: Sequence[int],
        reading: Reading,
        upscale: Upscaler | None,
        *,
        progress: Callable[[int], None],
    ) -> float:
        """See `Store`."""
        assert upscale is not None
        return write_tree(
            self.folder, plan.names, units, reading, upscale, num_threads=num_threads(), progress=progress
        )

    def num_images(self, plan: PngPlan, units: Sequence[int]) -> int:
        """See `Store`."""
        del plan
        return len(units)

    def finish(self, plan: PngPlan) -> None:
        """See `Store`."""
        png_tree.finish_png(plan)
