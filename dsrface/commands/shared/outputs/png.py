"""Make a tree of PNG files."""

from __future__ import annotations

from dataclasses import replace

from dsrface.commands.shared.outputs.jobs import Job
from dsrface.commands.shared.outputs.pipeline import write_tree
from dsrface.commands.shared.outputs.setting import FolderResult, Setting, locked, num_threads
from dsrface.data.cache import png_tree
from dsrface.data.cache.inputs import RowDataset
from dsrface.data.cache.table import hash_inputs, stat_sha256
from dsrface.events import Note, Progress


def run_png(job: Job, setting: Setting) -> FolderResult:
    """Bring a tree of PNG files up to what this run calls for.

    Raises:
        DsrfaceError: stale, locked, unreadable images, no room on the disk.
    """
    ranks, folder = setting.ranks, job.outputs_dir
    with locked(folder, ranks):
        plan: png_tree.PngPlan | None = None
        batch_size = 0
        with ranks.fail_together():
            if ranks.is_main:
                plan = _decide_png(job, setting)
                batch_size = int(plan.header["info"].get("batch_size", 0)) or setting.batch_size
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
        reading = setting.reading(dataset, batch_size)
        seconds = 0.0
        with ranks.fail_together(), setting.upscaler() as upscale:
            seconds = write_tree(
                folder,
                plan.names,
                mine,
                reading,
                upscale,
                num_threads=num_threads(),
                progress=lambda done: setting.emit(Progress(setting.label, done, len(mine))),
            )
        with ranks.fail_together():
            if ranks.is_main:
                png_tree.finish_png(plan)
        made = len(plan.todo)
        return FolderResult(str(folder), plan.action, plan.reason, made, made / seconds if made else 0.0)


def _decide_png(job: Job, setting: Setting) -> png_tree.PngPlan:
    return png_tree.decide_png(
        job.outputs_dir,
        names=job.names,
        inputs=hash_inputs(job.low_dir, job.names, num_threads=num_threads()),
        input_stats={name: stat_sha256(job.low_dir, names) for name, names in job.parts},
        key=setting.key(),
        info=setting.info(),
        force=setting.config.force,
    )
