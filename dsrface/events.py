"""What happens during a command, as values that the engine and the commands emit and sinks show or store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """A training run begins.

    Args:
        run_dir: Its folder.
        command: `"train-dsr"` or `"finetune"`.
        device: Device and number format with the reason they were chosen.
        num_steps: Optimiser steps of the whole run, those before a resume included.
        first_step: Steps already done; 0 unless the run resumes.
    """

    run_dir: Path
    command: str
    device: str
    num_steps: int
    first_step: int = 0


@dataclass(frozen=True)
class StepDone:
    """Emitted every `engine.log_every_steps` steps, for the steps since the last one.

    Args:
        step: Optimiser steps done so far.
        epoch: Epoch of the last of them, 0-based.
        metrics: Means over those steps, e.g. `loss/total`; `lr` is the last step's.
        images_per_s: Images trained on per second of wall time, all ranks together.
        data_wait_fraction: Share of the wall time spent waiting for the loader, in [0, 1].
    """

    step: int
    epoch: int
    metrics: dict[str, float]
    images_per_s: float
    data_wait_fraction: float


@dataclass(frozen=True)
class EvalDone:
    """The weights that a checkpoint of this step holds were validated.

    Args:
        step: Optimiser steps done.
        metrics: On validation images, never on test.
        is_best: Whether this step is the best so far by the command's criterion.
    """

    step: int
    metrics: dict[str, float]
    is_best: bool


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is complete on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Note:
    """One line that the user should read; `is_warning` when it calls for action."""

    message: str
    is_warning: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a command without training steps is.

    Args:
        label: What it is doing.
        done: Of `total`.
        total: 0 when unknown.
        left_s: Seconds that the whole command should still take, where it knows better than from `done`.
    """

    label: str
    done: int
    total: int
    left_s: float | None = None


@dataclass(frozen=True)
class CheckDone:
    """A check of the doctor has its answer; one with the same id that comes later takes its place.

    Args:
        id: E.g. `ds.open_handles`.
        status: `pass`, `info`, `warn`, `fail`, `skip` or `error`.
        summary: What was found, in one line.
        where: Members, lines or files; may be empty.
        matters: Why it matters; may be empty.
        fix: What to do; may be empty.
    """

    id: str
    status: str
    summary: str
    where: str = ""
    matters: str = ""
    fix: str = ""


@dataclass(frozen=True)
class RunFinished:
    """The run ends with a status: done, failed or interrupted."""

    status: str
    summary: dict[str, float | str] = field(default_factory=dict)


Event = RunStarted | StepDone | EvalDone | CheckpointSaved | Note | Progress | CheckDone | RunFinished
Emit = Callable[[Event], None]
