"""Which stores a job fills, by format."""

from __future__ import annotations

from typing import Any

from dsrface.commands.shared.outputs.jobs import Job
from dsrface.commands.shared.outputs.packed import PackedStore
from dsrface.commands.shared.outputs.png import PngStore
from dsrface.commands.shared.outputs.setting import Setting
from dsrface.commands.shared.outputs.store import Store


def stores_of(job: Job, setting: Setting) -> list[Store[Any]]:
    """Return the stores of a job: the outputs, and with a cache the HR faces where there are any."""
    if setting.config.format == "png":
        return [PngStore(job, setting)]
    has_hr = job.high_dir is not None
    return [PackedStore(job, setting), *([PackedStore(job, setting, is_hr=True)] if has_hr else [])]
