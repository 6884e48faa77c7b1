"""Small parts of a training step: cutting and moving batches, seeding, explaining a lack of memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import torch

from dsrface.config.engine import EngineConfig
from dsrface.engine.context import BatchSource
from dsrface.runtime.devices import is_out_of_memory, out_of_memory
from dsrface.runtime.worker_death import explain
from dsrface.types import Batch


def cut(batch: Batch, num_parts: int) -> list[Batch]:
    """Cut a batch into at most `num_parts` micro-batches of nearly equal size."""
    if num_parts == 1:
        return [batch]
    fields = [
        part.tensor_split(min(num_parts, len(batch)))
        for part in (batch.inputs, batch.high, batch.labels, batch.indices)
    ]
    return [replace(batch, inputs=a, high=b, labels=c, indices=d) for a, b, c, d in zip(*fields, strict=True)]


def move(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device without waiting; the indices, for drawing, stay where they are."""
    return replace(batch.to(device), indices=batch.indices)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators from (seed, step, rank), so that a resumed run has no state to restore."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)


@contextlib.contextmanager
def explained_memory(engine: EngineConfig) -> Iterator[None]:
    """Turn a lack of memory into an error that says what to lower.

    Raises:
        TrainingError: id `out-of-memory`.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(
            error,
            hint=f"Raise engine.accumulate (now {engine.accumulate}): the same training in smaller pieces; "
            "or lower the batch size; --resident never keeps a cache out of the device's memory.",
        ) from error


@contextlib.contextmanager
def explained_deaths(source: BatchSource) -> Iterator[None]:
    """Say what became of a worker; torch tells of a death by signal wherever the main thread is.

    Raises:
        WorkerError: a worker process died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise explain(error, num_workers=getattr(source, "num_workers", 1)) from error
