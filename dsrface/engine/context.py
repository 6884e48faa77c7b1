"""What the loop is given and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from dsrface.engine.distributed import Ranks
from dsrface.engine.run_folder import RunFolder
from dsrface.engine.signals import Stop
from dsrface.events import Emit
from dsrface.runtime.devices import Device
from dsrface.types import Batch


class BatchSource(Protocol):
    """What every loader looks like to the loop."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, the same in each."""
        ...

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        status: `done` or `interrupted`.
        step: Optimiser steps done.
        saved_step: Step of the last checkpoint, which a resumed run goes on from; -1 without one.
        best_step: Step of the best checkpoint, -1 without one.
        best_metrics: Its validation metrics.
        first_metrics: Validation metrics before the first step.
        exit_code: 0, 129, 130 or 143.
    """

    status: str
    step: int
    saved_step: int
    best_step: int
    best_metrics: dict[str, float]
    first_metrics: dict[str, float]
    exit_code: int


@dataclass(frozen=True)
class RunContext:
    """Run context: device, ranks, run folder, sinks, seed.

    Args:
        device: Device and number format.
        ranks: This process among those of the job.
        folder: The run folder; written by rank 0 only.
        emit: Takes the events; rank 0's go to the run folder and to the user.
        stop: Signals that came in.
        seed: Of the run.
    """

    device: Device
    ranks: Ranks
    folder: RunFolder
    emit: Emit
    stop: Stop
    seed: int
