"""Whether a run may start or go on in a folder; free of torch, for a first look."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dsrface.config.sources import Config, unflatten
from dsrface.errors import RunError
from dsrface.runtime.command_line import resume_command
from dsrface.runtime.files import read_json
from dsrface.runtime.locks import exclusive
from dsrface.runtime.nesting import flatten

RUN_FILE, CONFIG_FILE, LOCK_FILE = "run.json", "config.toml", ".lock"
SAMPLES, CHECKPOINTS = "samples", "checkpoints"
FAILED, INTERRUPTED = "failed", "interrupted"
# What may differ between a run and its resumption: how it runs, not what it computes.
_FREE_ON_RESUME = ("data", "resume", "run", "workers", "device", "engine.", "loader.")
_FIXED_ENGINE_KEYS = ("engine.accumulate",)
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


def config_values(config: Config) -> dict[str, Any]:
    """Return every setting as JSON values under dotted keys."""
    return flatten(config.model_dump(mode="json"))


def check_same_settings(
    path: Path, record: Mapping[str, Any], config: Config, also_changed: Sequence[str] = ()
) -> None:
    """Make sure that a run is carried on as it was started.

    Args:
        path: The run folder.
        record: Its run.json.
        config: What it would go on with.
        also_changed: What else differs, in words.

    Raises:
        RunError: it is of another command, or something differs that changes what it computes.
    """
    there, data = record.get("command"), getattr(config, "data", None)
    if there != config.command:
        raise RunError(
            f"The folder holds a run of {there}, not of {config.command}.",
            id="not-resumable",
            where=path,
            hint=f"Carry that one on: {resume_command(str(there), str(data), path)}\nOr use another --run.",
        )
    before, now = _as_read_now(record.get("config", {}), type(config)), config_values(config)
    changed = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_free(key)
    ]
    if changed or also_changed:
        raise RunError(
            "The run was started with other settings: " + "; ".join([*changed, *also_changed]) + ".",
            id="not-resumable",
            where=path,
            hint=f"Carry it on as it was started: {resume_command(str(there), str(data), path)}\n"
            "Or start a new run with another --run.",
        )


def _as_read_now(values: Mapping[str, Any], schema: type[Config]) -> Mapping[str, Any]:
    """Return the settings of a record as this version reads them: an earlier one may have stored more."""
    try:
        return config_values(schema.model_validate(unflatten(schema.from_earlier(values))))
    except ValidationError:
        return values


def _is_free(key: str) -> bool:
    return key not in _FIXED_ENGINE_KEYS and key.startswith(_FREE_ON_RESUME)


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
