"""Whether a run may start or go on in a folder; free of torch, for a first look."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from dsrface.errors import RunError
from dsrface.runtime.command_line import resume_command
from dsrface.runtime.files import read_json
from dsrface.runtime.locks import exclusive

RUN_FILE, CONFIG_FILE, LOCK_FILE = "run.json", "config.toml", ".lock"
SAMPLES, CHECKPOINTS = "samples", "checkpoints"
FAILED, INTERRUPTED = "failed", "interrupted"
_HALF_WRITTEN = re.compile(r"run\.json\.\d+\.tmp")


def claim(path: Path, *, command: str, data: Path | None, resume: bool) -> bool:
    """Return whether a run goes on in a folder; else a new one may start there.

    Args:
        path: The folder; need not exist.
        command: What wants to run there.
        data: Its data set, to say how a run is carried on.
        resume: Carry on what is there.

    Raises:
        RunError: a run or something else is there and `resume` is off, or nothing to resume; or another
            process holds the folder.
    """
    if path.exists() and not path.is_dir():
        raise RunError(
            "A file has this name, so no run folder can.",
            id="run-exists",
            where=path,
            hint="Use another --run.",
        )
    if (path / LOCK_FILE).exists():  # that a run is going on here is said before anything else
        with exclusive(path / LOCK_FILE, what="run folder"):
            pass
    is_old = (path / RUN_FILE).exists() and (resume or not _failed_at_once(path))
    if resume and not is_old:
        raise RunError(
            "There is no run to resume here.",
            id="nothing-to-resume",
            where=path,
            hint="Leave out --resume to start one.",
        )
    if not resume and path.exists() and not _failed_at_once(path) and not _is_skeleton(path):
        there = read_record(path).get("command") if is_old else None
        what = f"The folder holds a run of {there} already" if is_old else "The folder is not empty"
        hint = "Choose an empty or new folder by --run."
        if there == command:
            again = f"Carry it on: {resume_command(command, data, path)}\n" if data is not None else ""
            hint = f"{again}Or use another --run."
        raise RunError(f"{what}; nothing is overwritten.", id="run-exists", where=path, hint=hint)
    return is_old


def read_record(path: Path) -> dict[str, Any]:
    """Return a run's run.json.

    Raises:
        RunError: it is damaged.
    """
    try:
        return read_json(path / RUN_FILE)
    except RunError as error:
        raise RunError(
            f"The run cannot be carried on, for its {RUN_FILE} is damaged: {error.message}",
            id=error.id,
            where=path / RUN_FILE,
            hint="Start a new run in another folder; the checkpoints here can still be used as weights.",
        ) from error


def _failed_at_once(path: Path) -> bool:
    """Return whether an earlier run ended before its first checkpoint; a command may start it over."""
    with contextlib.suppress(RunError):
        status = read_json(path / RUN_FILE).get("status")
        has_checkpoint = any(path.glob(f"{CHECKPOINTS}/step_*/checkpoint.json"))
        return status in (FAILED, INTERRUPTED) and not has_checkpoint
    return False


def _is_skeleton(path: Path) -> bool:
    """Return whether a folder holds no more than what a run makes before its run.json: such a one is new."""
    for entry in path.iterdir():
        if entry.name in (SAMPLES, CHECKPOINTS):
            if not entry.is_dir() or any(entry.iterdir()):
                return False
        elif entry.name not in (LOCK_FILE, f"{LOCK_FILE}.pid") and not _HALF_WRITTEN.fullmatch(entry.name):
            return False
    return True
