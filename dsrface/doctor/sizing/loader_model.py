"""The model of a loader: what it rests on, what it predicts, and what is recommended from it.

One item takes l seconds, collating included, of which c processor seconds (its own, and those of other
threads and processes) are spent; it costs o seconds more on either side when it comes from another process,
which receives at most one in r. n workers on C cores supply X(n) = min(n / (l + o), C / (c + 2 o), 1 / r)
items a second, none supply X(0) = 1 / l. With a consumer of R items a second an item takes T(0) = 1/X(0) +
1/R without workers, for then loading and consuming take turns, and T(n) = max(1/X(n), 1/R) with them. The
fewest workers within 5 % of the best T win, below caps that each carry a name.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrface.doctor.sizing.limits import ASSUMED_WORKER_BYTES
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.runtime.resources import Cores

BATCH_OVERHEAD_S = 0.0004  # a batch through the queue: pickling, descriptors, wake-ups, on either side
_COPY_BYTES_PER_S = 1.5e9  # a worker copies its batch into fresh shared memory


@dataclass(frozen=True)
class LoaderFacts:
    """Everything the recommendation rests on.

    Args:
        cost: Of one item, measured in one thread.
        batch_size: Items a batch.
        batch_bytes: Tensor bytes of one collated batch.
        tensors_per_batch: Each is a file descriptor while it is under way.
        num_items: Length of the data set; None when unknown.
        method: Start method of the workers.
        cores: What this process may use.
        available_bytes: Free memory.
        shm_free: Free bytes of /dev/shm; None where there is none.
        open_files: Soft limit of open files; None where there is none.
        consumer_rate: Items per second that the training step takes; None when unknown.
        startup_s: Seconds until the first batch of a worker; 0 when unknown.
        worker_bytes: Memory of one worker.
        has_gpu: Whether batches go to a GPU.
        must_be_zero: Why workers cannot be used at all; empty when they can.
        extra_caps: Further limits by name.
        collate_s: Processor seconds of an item that making its batch takes.
    """

    cost: ItemCost
    batch_size: int
    batch_bytes: int
    tensors_per_batch: int
    num_items: int | None
    method: str
    cores: Cores
    available_bytes: int
    shm_free: int | None = None
    open_files: int | None = None
    consumer_rate: float | None = None
    startup_s: float = 0.0
    worker_bytes: int = ASSUMED_WORKER_BYTES
    has_gpu: bool = False
    must_be_zero: str = ""
    extra_caps: Mapping[str, int] = field(default_factory=dict)
    collate_s: float = 0.0

    def ipc_s(self) -> float:
        """Return o: the processor seconds an item costs more when it comes from a worker."""
        return (BATCH_OVERHEAD_S + self.batch_bytes / _COPY_BYTES_PER_S) / self.batch_size

    def supply(self, num_workers: int) -> float:
        """Return X(n) in items per second, on an otherwise idle machine."""
        own = max(self.cost.own_s + self.collate_s, 1e-9)
        if num_workers == 0:
            return 1 / own
        busy = self.cost.processor_s + self.collate_s + 2 * self.ipc_s()  # sending and receiving
        receive = self.batch_size / BATCH_OVERHEAD_S
        return min(num_workers / (own + self.ipc_s()), self.cores.effective / busy, receive)

    def step_s(self, num_workers: int) -> float:
        """Return T(n) in seconds per item, the consumer included where its rate is known."""
        consume = 1 / self.consumer_rate if self.consumer_rate else 0.0
        load = 1 / self.supply(num_workers)
        return load + consume if num_workers == 0 else max(load, consume)


@dataclass(frozen=True)
class Window:
    """Throughputs measured at one setting, in items per second, one a round."""

    num_workers: int
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """Items per second."""
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """Median absolute deviation as a share of the median."""
        middle = self.median
        return statistics.median(abs(rate - middle) for rate in self.rates) / middle if middle else 0.0


@dataclass(frozen=True)
class Recommendation:
    """Settings for a DataLoader, how sure they are and why.

    Args:
        num_workers: The number to use.
        low: Fewest workers that are equivalent within noise.
        high: Most workers that are equivalent within noise.
        prefetch_factor: Batches a worker keeps ready; None with 0 workers.
        pin_memory: Worth it with a CUDA device only.
        persistent_workers: Keep workers over epochs.
        multiprocessing_context: Start method to pass; None for the platform's own.
        confidence: `high`, `medium` or `low`.
        basis: `analytic` or `analytic+probe`.
        reason: One sentence.
        caps: Name of a limit to the most workers it allows.
        predicted_items_per_s: Supply at that setting.
        measurements: What the probe saw.
        table: Workers to the rate of a device that they keep busy, in items per second.
    """

    num_workers: int
    low: int
    high: int
    prefetch_factor: int | None
    pin_memory: bool
    persistent_workers: bool
    multiprocessing_context: str | None
    confidence: str
    basis: str
    reason: str
    caps: Mapping[str, int]
    predicted_items_per_s: float
    measurements: tuple[Window, ...] = ()
    table: Mapping[int, float] = field(default_factory=dict)

    def flags(self) -> str:
        """Return the settings as arguments of a DataLoader."""
        parts = [f"num_workers={self.num_workers}"]
        if self.num_workers:
            parts += [
                f"prefetch_factor={self.prefetch_factor}",
                f"persistent_workers={self.persistent_workers}",
            ]
        parts.append(f"pin_memory={self.pin_memory}")
        if self.multiprocessing_context and self.num_workers:
            parts.append(f'multiprocessing_context="{self.multiprocessing_context}"')
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the recommendation as it stands in the JSON report."""
        return {
            "num_workers": self.num_workers,
            "range": [self.low, self.high],
            "prefetch_factor": self.prefetch_factor,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.persistent_workers,
            "multiprocessing_context": self.multiprocessing_context,
            "confidence": self.confidence,
            "basis": self.basis,
            "reason": self.reason,
            "flags": self.flags(),
            "caps": dict(self.caps),
            "predicted_items_per_s": round(self.predicted_items_per_s, 1),
            "measurements": [
                {
                    "num_workers": window.num_workers,
                    "items_per_s_median": round(window.median, 1),
                    "mad": round(window.spread, 3),
                    "rounds": len(window.rates),
                }
                for window in self.measurements
            ],
            "table": {str(workers): round(rate, 1) for workers, rate in self.table.items()},
        }


@dataclass(frozen=True)
class WorkerChoice:
    """A number of workers and why."""

    num_workers: int
    reason: str
