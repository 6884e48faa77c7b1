"""How many workers: a model of the loader fed with measurements; pure functions, no clock in here.

(draft: the signature of `auto_workers` is final)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsrface.runtime.cpu import effective_cores


@dataclass(frozen=True)
class WorkerChoice:
    """A number of workers and why."""

    num_workers: int
    reason: str


def auto_workers(
    dataset: Any,
    *,
    batch_size: int,
    consumer_rate: float | None = None,
    budget_s: float = 3.0,
    emit: Callable[[Any], None] | None = None,
) -> WorkerChoice:
    """Choose the number of workers for `--workers auto`.

    Args:
        dataset: What the workers will index; items are measured here, in this process.
        batch_size: Samples a batch.
        consumer_rate: Samples per second that the training step can take; None when unknown.
        budget_s: Seconds this may take.
        emit: Receives one Note with the number and its reason.
    """
    cores = effective_cores()
    return WorkerChoice(cores.effective, f"{cores.effective} cores ({cores.reason})")
