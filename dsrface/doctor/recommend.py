"""How many workers: a model of the loader fed with measurements, corrected by a probe. Pure functions.

The model. One item costs c processor seconds, b blocked seconds, and o processor seconds more when it comes
from another process. n workers on C cores supply X(n) = min(n / (c + b + o), C / (c + o)) items a second,
none supply X(0) = 1 / (c + b). With a consumer of R items a second an item takes T(0) = 1/X(0) + 1/R without
workers, for then loading and consuming take turns, and T(n) = max(1/X(n), 1/R) with them. The fewest workers
within 5 % of the best T win, below caps that each carry a name.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dsrface.doctor.measure import ItemCost, at_least, measure_items, spread_indices
from dsrface.runtime.cpu import Cores, effective_cores, memory_limit, shm_free_bytes
from dsrface.runtime.start_methods import effective_start_method

_BATCH_OVERHEAD_S = 0.0004  # a batch through the queue: pickling, descriptors, wake-ups, on either side
_COPY_BYTES_PER_S = 1.5e9  # a worker copies its batch into fresh shared memory
_TOLERANCE = 0.05
_NO_WORKERS_MARGIN = 1.25  # 0 workers must be this much faster when nobody said what consumes the batches
_MOST_WORKERS = 32
_WORKER_BYTES = 220 << 20  # a worker with torch imported, when it was not measured
_SAFE_SHARE = 0.8


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
        has_gpu: Whether batches go to a CUDA device.
        must_be_zero: Why workers cannot be used at all; empty when they can.
        extra_caps: Further limits by name.
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
    worker_bytes: int = _WORKER_BYTES
    has_gpu: bool = False
    must_be_zero: str = ""
    extra_caps: Mapping[str, int] = field(default_factory=dict)

    def ipc_s(self) -> float:
        """Return o: the processor seconds an item costs more when it comes from a worker."""
        return (_BATCH_OVERHEAD_S + self.batch_bytes / _COPY_BYTES_PER_S) / self.batch_size

    def supply(self, num_workers: int) -> float:
        """Return X(n) in items per second, on an otherwise idle machine."""
        own = max(self.cost.cpu_s + self.cost.blocked_s, 1e-9)
        if num_workers == 0:
            return 1 / own
        busy = self.cost.cpu_s + self.ipc_s()
        receive = self.batch_size / _BATCH_OVERHEAD_S
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
        low: Fewest workers that cannot be told apart from it.
        high: Most workers that cannot be told apart from it.
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


def caps(facts: LoaderFacts, *, prefetch_factor: int = 2) -> dict[str, int]:
    """Return, by name, the most workers that each limit allows."""
    cores = facts.cores.effective
    limits: dict[str, int] = dict(facts.extra_caps)
    if facts.must_be_zero:
        limits["data set"] = 0
    if facts.cost.blocked_fraction < 0.15:
        limits["cores"] = cores
    else:
        limits["cores (items wait for I/O)"] = min(_MOST_WORKERS, max(8, 4 * cores))
    in_flight = 3 * facts.batch_bytes
    each = facts.worker_bytes + prefetch_factor * facts.batch_bytes
    limits["memory"] = max(0, int((_SAFE_SHARE * facts.available_bytes - in_flight) / max(1, each)))
    if facts.shm_free is not None and facts.batch_bytes:
        batches = _SAFE_SHARE * facts.shm_free / facts.batch_bytes - 3
        limits["shared memory"] = max(0, int(batches / prefetch_factor))
    if facts.open_files is not None:
        each_worker = 4 * max(1, facts.tensors_per_batch) * prefetch_factor
        limits["open files"] = max(0, (facts.open_files - 256) // each_worker)
    if facts.num_items is not None:
        limits["batches"] = max(0, math.ceil(facts.num_items / facts.batch_size))
    return limits


def candidates(facts: LoaderFacts) -> list[int]:
    """Return the settings worth probing: none, half, the analytic best, and twice that, within the caps."""
    best = analytic(facts)
    most = min(caps(facts).values())
    return sorted({0, *(min(most, number) for number in (1, math.ceil(best / 2), best, 2 * best))})


def analytic(facts: LoaderFacts) -> int:
    """Return the number of workers that the model alone would choose."""
    most = min(caps(facts).values())
    times = {number: facts.step_s(number) for number in range(most + 1)}
    return _fewest({number: 1 / seconds for number, seconds in times.items()}, facts)


def recommend(facts: LoaderFacts, windows: Sequence[Window] = ()) -> Recommendation:
    """Return the settings for these facts and, when there are any, these probe windows."""
    model = analytic(facts)
    number, confidence, reason = model, "medium", ""
    close = [model]
    if windows:
        noise = statistics.median(window.spread for window in windows)
        medians = {window.num_workers: window.median for window in windows}
        measured = _fewest(medians, facts)
        best = max(medians.values())
        slack = max(_TOLERANCE, 2 * noise)
        close = [workers for workers, rate in medians.items() if rate >= (1 - slack) * best]
        if noise > 0.2 or facts.cost.wait_fraction > 0.3:
            confidence = "low"
            reason = (
                f"the machine is busy (spread {noise:.0%}), so this is the model's value; run again when idle"
            )
        else:
            number = measured
            is_quiet = noise < 0.05 and facts.cost.wait_fraction < 0.1
            confidence = "high" if is_quiet and model in close else "medium"
            reason = f"measured: {medians[number]:.0f} items/s"
    elif facts.must_be_zero:
        confidence = "high"
    elif facts.cost.wait_fraction > 0.3:
        confidence = "low"
    close.append(number)
    why = _why(facts, number)
    limits = caps(facts)
    prefetch = _prefetch(facts, number)
    epoch_s = (facts.num_items or 10_000) * facts.step_s(number)
    return Recommendation(
        num_workers=number,
        low=min(close),
        high=max(close),
        prefetch_factor=prefetch if number else None,
        pin_memory=facts.has_gpu,
        persistent_workers=number > 0 and (facts.method != "fork" or facts.startup_s > 0.02 * epoch_s),
        multiprocessing_context=None,
        confidence=confidence,
        basis="analytic+probe" if windows else "analytic",
        reason=f"{why}; {reason}" if reason else why,
        caps=limits,
        predicted_items_per_s=facts.supply(number),
        measurements=tuple(windows),
        table={workers: facts.supply(workers) for workers in sorted({0, 1, 2, 4, 8, number})},
    )


def shm_needed_bytes(num_workers: int, *, prefetch_factor: int, batch_bytes: int) -> int:
    """Return what a loader needs in /dev/shm: (n x prefetch + 3) batches.

    Source: ours, found by bisection with private tmpfs mounts at (1, 2), (2, 2) and (2, 4).
    """
    return (num_workers * prefetch_factor + 3) * batch_bytes


def auto_workers(
    dataset: Any,
    *,
    batch_size: int,
    consumer_rate: float | None = None,
    budget_s: float = 3.0,
    emit: Callable[[Any], None] | None = None,
) -> WorkerChoice:
    """Choose the number of workers for `--workers auto`.

    Some items are loaded here, in this process and thread, for half the budget at most; the model does the
    rest. Nothing is started and nothing fails: a data set that cannot be measured gets the number of cores.

    Args:
        dataset: What the workers will index; must have a length.
        batch_size: Samples a batch.
        consumer_rate: Samples per second that the training step can take; None when unknown.
        budget_s: Seconds this may take.
        emit: Receives one Note with the number and its reason.
    """
    try:
        choice = _measured_choice(dataset, batch_size, consumer_rate, budget_s)
    except Exception as error:  # noqa: BLE001 - a broken item is the run's to report, not this function's
        cores = effective_cores()
        choice = WorkerChoice(cores.effective, f"{cores.reason}; items not measured: {type(error).__name__}")
    if emit is not None:
        from dsrface.engine.events import Note

        emit(Note(f"workers: {choice.num_workers} (auto: {choice.reason})"))
    return choice


def _measured_choice(
    dataset: Any, batch_size: int, consumer_rate: float | None, budget_s: float
) -> WorkerChoice:
    num_items = len(dataset)
    sizes: list[tuple[int, int]] = []

    def fetch(index: int) -> None:
        sizes.append(tensor_sizes(dataset[index]))

    keys = at_least(spread_indices(num_items, 256), 24)
    cost = measure_items(fetch, keys, budget_s=budget_s / 4, min_items=8)
    cores = effective_cores()
    if cost is None:
        return WorkerChoice(0, "the data set is empty")
    item_bytes = int(statistics.fmean(size for size, _ in sizes))
    facts = LoaderFacts(
        cost=cost,
        batch_size=batch_size,
        batch_bytes=item_bytes * batch_size,
        tensors_per_batch=max(count for _, count in sizes),
        num_items=num_items,
        method=effective_start_method()[0],
        cores=cores,
        available_bytes=memory_limit().available_bytes // cores.world_size,
        shm_free=shm_free_bytes(),
        open_files=open_files_limit(),
        consumer_rate=consumer_rate,
    )
    number = analytic(facts)
    return WorkerChoice(number, _why(facts, number))


def tensor_sizes(value: Any) -> tuple[int, int]:
    """Return the bytes and the number of the tensors and arrays in an item or a batch."""
    if hasattr(value, "element_size"):
        return int(value.numel() * value.element_size()), 1
    if hasattr(value, "nbytes"):
        return int(value.nbytes), 1
    parts: Sequence[Any] = ()
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = value
    elif hasattr(value, "__dict__"):
        parts = list(vars(value).values())
    sizes = [tensor_sizes(part) for part in parts]
    return sum(size for size, _ in sizes), sum(count for _, count in sizes)


def open_files_limit() -> int | None:
    """Return the soft limit of open files; None where there is none."""
    try:
        import resource
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def judge(facts: LoaderFacts, num_workers: int) -> tuple[str, list[str]]:
    """Judge a launch with a given number of workers.

    Returns:
        `pass`, `warn` or `fail`, and a sentence for each objection.
    """
    objections, status = [], "pass"
    for name, most in caps(facts).items():
        if num_workers <= most:
            continue
        if name in ("memory", "shared memory", "data set"):
            status = "fail"
            objections.append(
                f"{name}: {facts.must_be_zero}"
                if name == "data set"
                else f"{name} is enough for {most} workers"
            )
        else:
            status = "warn" if status == "pass" else status
            objections.append(f"{name}: more than {most} bring nothing")
    best = analytic(facts)
    loss = 1 - facts.step_s(best) / facts.step_s(num_workers)
    if loss > 0.15:
        status = "warn" if status == "pass" else status
        objections.append(f"{best} workers would be {1 / (1 - loss):.1f} times as fast")
    return status, objections


def with_context(recommendation: Recommendation, method: str | None) -> Recommendation:
    """Return the recommendation with a start method to pass to the loader."""
    return replace(recommendation, multiprocessing_context=method)


def _fewest(rates: Mapping[int, float], facts: LoaderFacts) -> int:
    """Return the fewest workers within 5 % of the best rate.

    With an unknown consumer, workers are preferred even at equal speed: they load while the device computes.
    """
    with_workers = {number: rate for number, rate in rates.items() if number}
    if facts.consumer_rate is None and with_workers and 0 in rates:
        if rates[0] >= _NO_WORKERS_MARGIN * max(with_workers.values()):
            return 0
        rates = with_workers
    best = max(rates.values())
    return min(number for number, rate in rates.items() if rate >= (1 - _TOLERANCE) * best)


def _prefetch(facts: LoaderFacts, num_workers: int) -> int:
    is_uneven = facts.cost.p95_over_p50 > 3 or facts.cost.blocked_fraction > 0.3
    if is_uneven and min(caps(facts, prefetch_factor=4).values()) >= num_workers:
        return 4
    return 2 if min(caps(facts).values()) >= num_workers else 1


def _why(facts: LoaderFacts, number: int) -> str:
    cost = facts.cost
    if facts.must_be_zero:
        return facts.must_be_zero
    item = f"an item takes {cost.cpu_s * 1e3:.2g} ms of processor, {cost.blocked_s * 1e3:.2g} ms of I/O"
    if number == 0:
        return f"{item}: handing it over from another process costs more than loading it"
    limits = caps(facts)
    tightest = min(limits, key=lambda name: limits[name])
    bound = f", limited by {tightest}" if limits[tightest] == number and tightest != "cores" else ""
    return f"{item}; {facts.cores.effective} cores ({facts.cores.reason}){bound}"
