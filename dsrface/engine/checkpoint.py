"""Checkpoints: complete or absent, and checked before they are trusted.

    checkpoints/step_000500/
      model.safetensors   the validated weights, for use
      trainer.pt          everything that resuming needs, loadable with weights_only=True
      checkpoint.json     step, metrics, size and SHA-256 of the other two; written last
    last.json  best.json  {"checkpoint": "checkpoints/step_000500", "step": 500, ...}

Everything is written into a temporary folder, fsynced, and renamed as a whole.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from dsrface.errors import RunError
from dsrface.models.sources import BEST, LAST, MODEL_FILE, TRAINER_FILE
from dsrface.models.weight_files import refuse_old_torch
from dsrface.runtime.files import (
    atomic_writer,
    disk_error,
    fsync_dir,
    read_json,
    replace,
    sha256_file,
    write_json,
)

MANIFEST_FILE = "checkpoint.json"
_TMP_PREFIX = ".tmp-"
_EARLIER_BACKBONE = "trunk."  # how a backbone's tensors were named at first


def save_checkpoint(
    run_dir: Path,
    *,
    step: int,
    save_model: Callable[[Path], None],
    trainer_state: dict[str, Any],
    metrics: dict[str, float],
    is_best: bool,
    keep: int,
) -> Path:
    """Write a checkpoint, point last.json (and best.json) at it, and delete old ones.

    Args:
        run_dir: The run folder.
        step: Optimiser steps done.
        save_model: Writes the model file to the path it is given, durably.
        trainer_state: Tensors, numbers, strings, lists and dicts only.
        metrics: Validation metrics of these weights, empty when they were not validated.
        is_best: Point best.json here too.
        keep: Newest checkpoints to keep; what best.json names is kept besides.

    Raises:
        MachineError: disk full or read-only.
    """
    folder = run_dir / "checkpoints"
    final = folder / f"step_{step:06d}"
    tmp = folder / f"{_TMP_PREFIX}{final.name}-{os.getpid()}"
    try:
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        save_model(tmp / MODEL_FILE)
        _save_tensors(trainer_state, tmp / TRAINER_FILE)
        files = {}
        for name in (MODEL_FILE, TRAINER_FILE):
            files[name] = {"bytes": (tmp / name).stat().st_size, "sha256": sha256_file(tmp / name)}
        write_json(
            tmp / MANIFEST_FILE, {"schema_version": 1, "step": step, "metrics": metrics, "files": files}
        )
        fsync_dir(tmp)
        _swap_in(tmp, final)
    except OSError as error:
        raise disk_error(error, final) from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)  # gone already, unless something was raised
    pointer = {"checkpoint": f"checkpoints/{final.name}", "step": step, "metrics": metrics}
    if is_best:
        write_json(run_dir / BEST, pointer)
    write_json(run_dir / LAST, pointer)
    _prune(run_dir, keep)
    return final


def load_trainer_state(checkpoint: Path) -> dict[str, Any]:
    """Check a checkpoint's files against its manifest and return the trainer state, on the CPU.

    Raises:
        RunError: a file is missing, truncated or altered; it is named.
        MachineError: torch is too old to read the state safely (`torch-too-old`).
    """
    verify_checkpoint(checkpoint)
    refuse_old_torch(checkpoint / TRAINER_FILE)
    state: dict[str, Any] = torch.load(checkpoint / TRAINER_FILE, map_location="cpu", weights_only=True)
    for tensors in (state.get("task", {}), state.get("ema", {})):
        for name in [name for name in tensors if name.startswith(_EARLIER_BACKBONE)]:
            tensors[f"backbone.{name.removeprefix(_EARLIER_BACKBONE)}"] = tensors.pop(name)
    return state


def verify_checkpoint(checkpoint: Path) -> None:
    """Compare size and SHA-256 of every file with the manifest.

    Raises:
        RunError: a file is missing, truncated or altered; it is named.
    """
    with _as_damaged(checkpoint):
        files = read_json(checkpoint / MANIFEST_FILE).get("files", {})
        for name in (MODEL_FILE, TRAINER_FILE):
            path, wanted = checkpoint / name, files.get(name, {})
            if not path.exists():
                raise _damaged(path, "is missing")
            if path.stat().st_size != wanted.get("bytes"):
                raise _damaged(path, f"has {path.stat().st_size} bytes instead of {wanted.get('bytes')}")
            if sha256_file(path) != wanted.get("sha256"):
                raise _damaged(path, "has been altered: its SHA-256 is not the one written")


def find_last(run_dir: Path) -> Path | None:
    """Return the checkpoint that last.json names, else the newest complete one, else None."""
    with contextlib.suppress(RunError):
        named = run_dir / str(read_json(run_dir / LAST).get("checkpoint", ""))
        if (named / MANIFEST_FILE).exists():
            return named
    complete = [path for path in _all(run_dir) if (path / MANIFEST_FILE).exists()]
    return complete[-1] if complete else None


def clean_leftovers(run_dir: Path) -> None:
    """Delete what killed writers left behind; call it only while holding the run's lock."""
    for path in (run_dir / "checkpoints").glob(f"{_TMP_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _swap_in(tmp: Path, final: Path) -> None:
    """Rename `tmp` to `final`; a checkpoint of the same step from an earlier attempt makes way."""
    if final.exists():
        old = final.with_name(f"{_TMP_PREFIX}old-{final.name}-{os.getpid()}")
        replace(final, old)
        replace(tmp, final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        replace(tmp, final)
    fsync_dir(final.parent)


def _prune(run_dir: Path, keep: int) -> None:
    best = ""
    with contextlib.suppress(RunError):
        best = str(read_json(run_dir / BEST).get("checkpoint", ""))
    for path in _all(run_dir)[:-keep]:
        if f"checkpoints/{path.name}" != best:
            shutil.rmtree(path, ignore_errors=True)


def _all(run_dir: Path) -> list[Path]:
    def step(path: Path) -> int:
        text = path.name.removeprefix("step_")
        return int(text) if text.isdigit() else -1

    return sorted((path for path in (run_dir / "checkpoints").glob("step_*") if path.is_dir()), key=step)


@contextlib.contextmanager
def _as_damaged(checkpoint: Path) -> Iterator[None]:
    """Turn whatever is wrong with the manifest into the one error that names the checkpoint."""
    try:
        yield
    except RunError as error:
        if error.id == "checkpoint-damaged":
            raise
        raise _damaged(checkpoint / MANIFEST_FILE, "is missing or damaged") from error


def _damaged(path: Path, what: str) -> RunError:
    return RunError(
        f"The checkpoint cannot be used: {path.name} {what}.",
        id="checkpoint-damaged",
        where=path,
        hint=f"Delete the folder {path.parent}; --resume then goes on from the newest one left.",
    )


def _save_tensors(state: dict[str, Any], path: Path) -> None:
    # Through memory: torch's own writer hides from its caller that the disk is full.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_writer(path) as handle:
        handle.write(buffer.getbuffer())
