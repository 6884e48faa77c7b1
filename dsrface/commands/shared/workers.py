"""`--workers auto|N`: how many worker processes, and why; `prepare` imports it, so free of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from dsrface.doctor.sizing.loader_model import WorkerChoice
from dsrface.doctor.sizing.recommend import auto_workers
from dsrface.events import Emit, Note

if TYPE_CHECKING:
    from dsrface.engine.distributed import Ranks
    from dsrface.runtime.devices import Device


class Context(Protocol):
    """What of a command's context matters here."""

    @property
    def device(self) -> Device:
        """Where the batches go."""

    @property
    def ranks(self) -> Ranks:
        """This job's processes."""

    @property
    def emit(self) -> Emit:
        """Takes the reason."""


def choose_workers(workers: int | Literal["auto"], dataset: Any, *, batch_size: int, context: Context) -> int:
    """Return the number of worker processes of each rank; rank 0 measures for all.

    Args:
        workers: A number, or auto.
        dataset: What the workers will index.
        batch_size: Samples a batch.
        context: Of the training, or of the outputs that are made.
    """
    if workers != "auto":
        return workers
    has_gpu = context.device.kind != "cpu"

    def measure() -> int:
        return announced(auto_workers(dataset, batch_size=batch_size, has_gpu=has_gpu), context.emit)

    return context.ranks.on_main(measure)


def announced(choice: WorkerChoice, emit: Emit) -> int:
    """Report a choice with its reason, and return its number."""
    emit(Note(f"workers: auto -> {choice.num_workers} ({choice.reason})"))
    return choice.num_workers
