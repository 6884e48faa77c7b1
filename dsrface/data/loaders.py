"""The only DataLoader factory: batches as `types.Batch`, workers that stay, deaths that are explained."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from dsrface.config.engine import LoaderConfig
from dsrface.data.datasets import Sample
from dsrface.data.samplers import Key, RankedSampler
from dsrface.errors import DsrfaceError
from dsrface.runtime.ending import ending_signals
from dsrface.runtime.worker_queue import telling_context
from dsrface.types import Batch

DEFAULTS = LoaderConfig()
_STEP_S = 1.0


class Loader:
    """Batches of a Dataset in the order of a sampler; workers live until `close`.

    Args:
        loader: torch's loader over guarded samples.
        sampler: The sampler that `loader` draws from.
        name: What the data set is called in messages.
    """

    def __init__(self, loader: DataLoader[Any], sampler: RankedSampler, *, name: str) -> None:
        self.sampler = sampler
        self.num_workers = loader.num_workers
        self._loader: DataLoader[Any] | None = loader
        self._name = name

    @property
    def num_batches(self) -> int:
        """Batches an epoch on this rank."""
        return self.sampler.num_batches

    def __len__(self) -> int:
        return self.num_batches

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Args:
            epoch: 0-based.
            start_batch: First batch to yield; the earlier ones are not even read.

        Raises:
            DsrfaceError: what the Dataset raised, just as it raised it.
            WorkerError: a worker died or hung.
        """
        if self._loader is None:
            raise RuntimeError("the loader is closed")
        self.sampler.set_position(epoch, start_batch)
        try:
            batches = iter(self._loader)
            if self.num_workers:
                _wait_in_steps(batches)
            for item in batches:
                if isinstance(item, DsrfaceError):
                    raise item  # noqa: TRY301 - the handler below lets it pass
                item.epoch = epoch
                yield item
        except (DsrfaceError, GeneratorExit):
            raise
        except Exception as error:
            if self.num_workers == 0:
                raise
            from dsrface.runtime.worker_death import explain

            codes = self._exit_codes()
            raise explain(
                error, num_workers=self.num_workers, dataset=self._name, exit_codes=codes
            ) from error

    def _exit_codes(self) -> list[int]:
        """Return how the workers that are gone ended; torch names a signal, but no exit code of Windows."""
        workers = getattr(getattr(self._loader, "_iterator", None), "_workers", ())
        return [worker.exitcode for worker in workers if worker.exitcode is not None]

    def close(self) -> None:
        """Stop the workers and wait for them; the loader cannot be used afterwards."""
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            with contextlib.suppress(RuntimeError):  # torch's word of a dead worker, which no longer matters
                iterator._shutdown_workers()  # noqa: SLF001 - torch has no public way to stop persistent workers
            for worker in getattr(iterator, "_workers", ()):
                if worker.is_alive():  # stopped or stuck: Python would wait for it at its exit
                    worker.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_loader(
    dataset: Dataset[Sample],
    sampler: RankedSampler,
    *,
    num_workers: int,
    pin_memory: bool = False,
    settings: LoaderConfig = DEFAULTS,
) -> Loader:
    """Return a loader.

    Args:
        dataset: Takes (epoch, index) and gives a `Sample`.
        sampler: Gives the keys of each batch and can be set to a position.
        num_workers: Worker processes; 0 reads in this process.
        pin_memory: Deliver page-locked memory, for a fast copy to CUDA.
        settings: How workers start, how far they read ahead, and when one counts as hung. Where the start
            method is open, DSRFACE_START_METHOD decides, or else torch and Python.
    """
    start_method = settings.method or os.environ.get("DSRFACE_START_METHOD") or None
    loader: DataLoader[Any] = DataLoader(
        _Guarded(dataset),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        timeout=settings.timeout_s if num_workers else 0,
        worker_init_fn=start_worker if num_workers else None,
        multiprocessing_context=telling_context(start_method) if num_workers else None,
        prefetch_factor=settings.prefetch_factor if num_workers else None,
        persistent_workers=num_workers > 0,
    )
    return Loader(loader, sampler, name=type(dataset).__name__)


def _wait_in_steps(batches: Any) -> None:
    """Let torch wait for a batch a second at a time and look for dead workers in between.

    On Windows it would not notice a death before the timeout. And a timeout counts while the job is stopped
    (Ctrl-Z), so that a training that is continued would be ended for workers that were stopped with it.
    """
    if "_try_get_data" in vars(batches):  # torch gives the same iterator for every epoch
        return
    ask = batches._try_get_data  # noqa: SLF001 - torch has no public way

    def in_steps(timeout: float = _STEP_S) -> tuple[bool, Any]:
        left = timeout
        while left > _STEP_S:
            is_there, data = ask(_STEP_S)
            if is_there:
                return True, data
            left -= _STEP_S
        return ask(left)  # type: ignore[no-any-return]

    batches._try_get_data = in_steps  # noqa: SLF001


def collate(samples: list[Sample | DsrfaceError]) -> Batch | DsrfaceError:
    """Stack samples to a batch, or pass on the first error among them."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DsrfaceError):
            return sample
        good.append(sample)
    sizes_px = [sample.inputs.shape[0] for sample in good]
    largest = max(sizes_px)
    return Batch(
        torch.stack([_padded(sample.inputs, largest) for sample in good]),
        torch.stack([sample.high for sample in good]),
        torch.tensor([sample.label for sample in good], dtype=torch.int64),
        torch.tensor([sample.index for sample in good], dtype=torch.int64),
        sizes_px=None if min(sizes_px) == largest else torch.tensor(sizes_px, dtype=torch.int64),
    )


def _padded(image: Tensor, size_px: int) -> Tensor:
    """Return an image [S, S, 3] at the top left of one of `size_px`."""
    missing = size_px - image.shape[0]
    return functional.pad(image, (0, 0, 0, missing, 0, missing)) if missing else image


class _Guarded(Dataset[Any]):
    """Hands our errors over as values; torch would rebuild them with a traceback as their message."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: Key) -> Sample | DsrfaceError:
        try:
            return self.dataset[key]
        except DsrfaceError as error:
            return error


def start_worker(worker_id: int) -> None:
    """Leave Ctrl-C and a job's cancellation to the main process, which stops its workers after its step."""
    del worker_id
    for signum in ending_signals():
        signal.signal(signum, signal.SIG_IGN)
    torch.set_num_threads(1)
