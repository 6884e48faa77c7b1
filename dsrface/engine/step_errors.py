"""Errors of a training step in words: a lack of memory, a worker that died."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dsrface.config.engine import EngineConfig
from dsrface.engine.context import BatchSource
from dsrface.runtime.devices import is_out_of_memory, out_of_memory
from dsrface.runtime.worker_death import explain


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
