"""`--workers auto|N`: how many worker processes, and why; `prepare` imports it, so free of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dsrface.doctor.sizing.loader_model import WorkerChoice
from dsrface.doctor.sizing.recommend import auto_workers
from dsrface.events import Emit, Note

if TYPE_CHECKING:
    from dsrface.engine.distributed import Ranks
    from dsrface.runtime.devices import Device


def choose_workers(
    workers: int | Literal["auto"],
    dataset: Any,
    *,
    batch_size: int,
    device: Device,
    ranks: Ranks,
    emit: Emit,
) -> int:
    """Return the number of worker processes of each rank; rank 0 measures for all.

    Args:
        workers: A number, or auto.
        dataset: What the workers will index.
        batch_size: Samples a batch.
        device: Where the batches go.
        ranks: This job's processes.
        emit: Receives the reason.
    """
    if workers != "auto":
        return workers
    number = 0
    if ranks.is_main:
        choice = auto_workers(dataset, batch_size=batch_size, has_gpu=device.kind != "cpu")
        number = announced(choice, emit)
    return int(ranks.share(number))


def announced(choice: WorkerChoice, emit: Emit) -> int:
    """Tell a choice with its reason, and return its number."""
    emit(Note(f"workers: auto -> {choice.num_workers} ({choice.reason})"))
    return choice.num_workers
