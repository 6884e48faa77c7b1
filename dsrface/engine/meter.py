"""Metrics that stay on the device until somebody asks: the step itself waits for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dsrface.types import Batch


@dataclass(frozen=True)
class Reading:
    """What a fetch brought back.

    Args:
        metrics: Means over the steps since the last fetch.
        images_per_s: Of this process, over wall time.
        data_wait_fraction: Share of the wall time spent waiting for batches, in [0, 1].
        bad_step: First step whose loss or gradient was not finite, else -1.
        bad_epoch: Its epoch.
        bad_indices: Its batch.
    """

    metrics: dict[str, float]
    images_per_s: float
    data_wait_fraction: float
    bad_step: int = -1
    bad_epoch: int = 0
    bad_indices: tuple[int, ...] = ()


class Meter:
    """Sums metrics on the device, remembers which batch each step saw, and times the wait for data."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._names: list[str] = []
        self._sums: torch.Tensor | None = None
        self._seen: dict[int, tuple[int, torch.Tensor]] = {}
        self._num_steps = self._num_images = 0
        self._began, self._wait_s = time.perf_counter(), 0.0

    def waited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on, counting the time that each took to arrive."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._wait_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def add(self, step: int, batch: Batch, metrics: dict[str, torch.Tensor], *, is_bad: torch.Tensor) -> None:
        """Take one step's metrics; nothing is copied to the host.

        Args:
            step: Number of the step, 0-based.
            batch: What it saw, as the loader gave it; only its indices are kept, copied, as a reader reuses
                its buffers.
            metrics: 0-d tensors on the device, the same keys in every step between two fetches.
            is_bad: 0-d bool tensor: the loss or the gradient is not finite.
        """
        values = torch.stack([value.detach().float() for value in metrics.values()])
        if self._sums is None:
            self._names, self._sums = list(metrics), values
        else:
            self._sums += values
        self._bad_step = torch.where((self._bad_step < 0) & is_bad, step, self._bad_step)
        self._seen[step] = (batch.epoch, batch.indices.clone())
        self._num_steps += 1
        self._num_images += len(batch)

    def has_steps(self) -> bool:
        """Whether there is anything to fetch."""
        return self._num_steps > 0

    def fetch(self) -> Reading:
        """Wait for the device, return the means since the last fetch, and start over."""
        assert self._sums is not None
        *sums, bad_step = torch.cat([self._sums, self._bad_step.float()[None]]).tolist()
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        num_steps = self._num_steps
        metrics = {name: value / num_steps for name, value in zip(self._names, sums, strict=True)}
        epoch, indices = self._seen.get(int(bad_step), (0, None))
        reading = Reading(
            metrics,
            self._num_images / elapsed,
            min(1.0, self._wait_s / elapsed),
            int(bad_step),
            epoch,
            tuple(indices.tolist()) if indices is not None else (),
        )
        self._sums, self._seen = None, {}
        self._num_steps = self._num_images = 0
        self.pause()
        return reading

    def pause(self) -> None:
        """Leave out the time until now, e.g. that of a validation."""
        self._began = time.perf_counter()
        self._wait_s = 0.0
