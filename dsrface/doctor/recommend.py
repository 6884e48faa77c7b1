"""How many workers: the loader model fed with measurements, corrected by a probe. Pure functions.

Only `auto_workers` measures, for `--workers auto`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dsrface.doctor.loader_model import LoaderFacts, Recommendation, Window, WorkerChoice
from dsrface.doctor.measure import at_least, measure_items, spread_indices
from dsrface.runtime.cpu import effective_cores, memory_limit, shm_free_bytes
from dsrface.runtime.start_methods import effective_start_method

_TOLERANCE = 0.05
_NO_WORKERS_MARGIN = 1.25  # 0 workers must be this much faster when nobody said what consumes the batches
_BEYOND_NOISE = 2.0  # times as fast: what a busy machine does not feign
_MOST_WORKERS = 32
_SAFE_SHARE = 0.8


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
        is_noisy = noise > 0.2 or facts.cost.wait_fraction > 0.3
        if (
            is_noisy
            and measured == 0
            and best
            > _BEYOND_NOISE * max((rate for workers, rate in medians.items() if workers), default=best)
        ):
            number, confidence = 0, "medium"
            reason = f"measured, far beyond the noise of a busy machine: {best:.0f} items/s"
        elif is_noisy:
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
        reason = f"the machine is busy: items waited {facts.cost.wait_fraction:.0%} of their time for a core"
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
