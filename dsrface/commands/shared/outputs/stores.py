"""Which stores a job fills, by format."""

from __future__ import annotations

from typing import Any

from dsrface.commands.shared.outputs.context import PrecomputeContext
from dsrface.commands.shared.outputs.jobs import Job
from dsrface.commands.shared.outputs.packed import PackedStore
from dsrface.commands.shared.outputs.png import PngStore
from dsrface.commands.shared.outputs.store import Store


def stores_of(job: Job, context: PrecomputeContext) -> list[Store[Any]]:
    """Return the stores of a job: the outputs, and with a cache the HR faces where there are any."""
    if context.config.format == "png":
        return [PngStore(job, context)]
    has_hr = job.high_dir is not None
    return [PackedStore(job, context), *([PackedStore(job, context, is_hr=True)] if has_hr else [])]
