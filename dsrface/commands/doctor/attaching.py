"""`dsrface doctor --attach PID`: look at a running job, and say what its loaders wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.attach.look import look
from dsrface.doctor.attach.report import AttachReport, build
from dsrface.doctor.attach.stacks import can_see_stacks
from dsrface.errors import UsageError
from dsrface.runtime.files import write_json


@dataclass(frozen=True)
class AttachResult:
    """What a running job does.

    Args:
        report: What was seen.
        output: File it was also written to.
    """

    report: AttachReport
    output: Path | None = None
    next_command: ClassVar[str] = ""

    @property
    def summary(self) -> str:
        """The answer in one line."""
        return self.report.verdict_line()

    @property
    def location(self) -> str:
        """The file, when one was asked for."""
        return str(self.output) if self.output is not None else ""

    @property
    def exit_code(self) -> int:
        """1 when a loader waits for a worker that is dead or blocked."""
        return self.report.exit_code

    def lines(self) -> Iterator[str]:
        """Yield each process with its workers."""
        return self.report.lines()

    def to_dict(self) -> dict[str, Any]:
        """Return the report."""
        return self.report.to_dict()


def run_attach(config: DoctorConfig) -> AttachResult:
    """Look at the process that `--attach` names and at all below it.

    Raises:
        UsageError: there is no such process, or it belongs to somebody else.
    """
    assert config.attach is not None
    start = time.monotonic()
    try:
        found = look(config.attach)
    except psutil.NoSuchProcess:
        raise UsageError(
            f"There is no process {config.attach}.",
            id="no-such-process",
            hint="`pgrep -af python` lists the Python processes with their command lines.",
        ) from None
    except psutil.AccessDenied:
        raise UsageError(
            f"The process {config.attach} belongs to another user.",
            id="no-such-process",
            hint="Run the doctor as that user.",
        ) from None
    report = build(config.attach, found, has_stacks=can_see_stacks(), duration_s=time.monotonic() - start)
    if config.output is not None:
        write_json(config.output, report.to_dict())
    return AttachResult(report, config.output)
