"""How many workers: the loader model fed with measurements, corrected by a probe. Pure functions.

Only `auto_workers` measures, for `--workers auto`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dsrface.doctor.checks.performance import LAUNCH
from dsrface.doctor.report import Finding
from dsrface.doctor.sizing.limits import (
    cores_text,
    files_needed,
    memory_needed_bytes,
    most_workers,
    open_files_limit,
    shm_needed_bytes,
)
from dsrface.doctor.sizing.loader_model import LoaderFacts, Recommendation, Window, WorkerChoice
from dsrface.doctor.sizing.measure import ItemCost, at_least, measure_items, spread_indices
from dsrface.doctor.sizing.memory import tensor_sizes
from dsrface.runtime.resources import effective_cores, memory_limit, shm_free_bytes
from dsrface.runtime.start_methods import effective_start_method
from dsrface.runtime.text import figure_text

_TOLERANCE = 0.05
_NO_WORKERS_MARGIN = 1.25  # 0 workers must be this much faster when it is unknown what consumes the batches
_NOISY, _BUSY = 0.2, 0.3  # spread of the rates and share of waiting above which timings mean little
_BEYOND_NOISE = 2.0  # times as fast: a lead that noise does not explain
_MOST_WORKERS = 32
_QUICK_BATCH_S = 1e-3  # a batch that loads faster than this costs more to hand over than to load
_OVERLAPS = 1.3  # times the rate of one worker that two must reach, for waiting that overlaps
_SAFE_SHARE = 0.8
_AUTO_S = 0.75  # of loading items, for `--workers auto`
NOT_PROVED = "not proved"  # the limit of workers that no worker has been seen to load for


def caps(facts: LoaderFacts, *, prefetch_factor: int = 2) -> dict[str, int]:
    """Return, by name, the most workers that each limit allows."""
    cores = facts.cores.effective
    limits: dict[str, int] = dict(facts.extra_caps)
    if facts.must_be_zero:
        limits["data set"] = 0
    if facts.cost.blocked_fraction < 0.15:
        limits["cores"] = cores
    else:
        limits["I/O overlap"] = min(_MOST_WORKERS, max(8, 4 * cores))
    batch_bytes, tensors, prefetch = facts.batch_bytes, facts.tensors_per_batch, prefetch_factor
    limits["memory"] = most_workers(
        lambda number: memory_needed_bytes(
            number, worker_bytes=facts.worker_bytes, batch_bytes=batch_bytes, prefetch_factor=prefetch
        ),
        _SAFE_SHARE * facts.available_bytes,
    )
    if facts.shm_free is not None and batch_bytes:
        limits["shared memory"] = most_workers(
            lambda number: shm_needed_bytes(number, batch_bytes=batch_bytes, prefetch_factor=prefetch),
            _SAFE_SHARE * facts.shm_free,
        )
    if facts.open_files is not None:
        limits["open files"] = most_workers(
            lambda number: files_needed(number, tensors_per_batch=tensors, prefetch_factor=prefetch),
            facts.open_files,
        )
    if facts.num_items is not None:
        limits["batches"] = max(0, math.ceil(facts.num_items / facts.batch_size))
    return limits


def candidates(facts: LoaderFacts) -> list[int]:
    """Return candidates to benchmark, most promising first: the model's, none, and those around them."""
    best = analytic(facts)
    most = min(caps(facts).values())
    wanted = (best, 0, 2 * best, math.ceil(best / 2), 1)
    return list(dict.fromkeys(min(most, number) for number in wanted))


def analytic(facts: LoaderFacts) -> int:
    """Return the number of workers that the model alone would choose."""
    most = min(caps(facts).values())
    times = {number: facts.step_s(number) for number in range(most + 1)}
    return _fewest({number: 1 / seconds for number, seconds in times.items()}, facts)


def recommend(facts: LoaderFacts, windows: Sequence[Window] = ()) -> Recommendation:
    """Return the settings for these facts and, when there are any, these probe windows."""
    model = analytic(facts)
    if all(window.num_workers != model for window in windows):
        windows = ()  # there was time for other settings only, none of which the model would choose
    number, confidence, reason = (
        _measured(facts, windows, model) if windows else (model, *_trust_in_model(facts, model))
    )
    close = [*(_close_to_best(windows) if windows else [model]), number]
    is_as_modelled = number == model or facts.must_be_zero
    why = (
        _why(facts, number)
        if is_as_modelled
        else f"{_item_text(facts)}; a timing decided, the model alone says {model}"
    )
    limits = caps(facts)
    most = min(limits.values())
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
        table={
            workers: facts.supply(workers) for workers in sorted({0, 1, 2, 4, 8, number}) if workers <= most
        },
    )


def _measured(facts: LoaderFacts, windows: Sequence[Window], model: int) -> tuple[int, str, str]:
    """Return the number of workers that the windows speak for, the confidence in it and its reason."""
    noise = _noise(windows)
    medians = {window.num_workers: window.median for window in windows}
    number, best = _fewest(medians, facts), max(medians.values())
    others = max((rate for workers, rate in medians.items() if workers), default=best)
    if noise > _NOISY or facts.cost.wait_fraction > _BUSY:
        if number == 0 and best > _BEYOND_NOISE * others:
            reason = f"measured, far beyond the noise of a busy machine: {figure_text(best)} items/s"
            return 0, "medium", reason
        sign = f"rates spread by {noise:.0%}" if noise > _NOISY else _waited(facts)
        reason = f"the machine is busy ({sign}), so this is the model's value; run again when idle"
        return model, "low", reason
    is_known = not facts.cost.is_wait_estimated and all(len(window.rates) > 1 for window in windows)
    is_quiet = is_known and noise < 0.05 and facts.cost.wait_fraction < 0.1
    confidence = "high" if is_quiet and model in _close_to_best(windows) else "medium"
    return number, confidence, f"measured: {figure_text(medians[number])} items/s"


def _trust_in_model(facts: LoaderFacts, number: int) -> tuple[str, str]:
    """Return the confidence in the model's number where nothing was timed, and the reason; may be empty."""
    if facts.must_be_zero:
        return "high", ""
    if number > facts.cores.effective:
        return "low", "more workers than cores, and not timed"
    if facts.cost.wait_fraction > _BUSY:
        return "low", f"the machine is busy: {_waited(facts)}"
    return "medium", ""


def _close_to_best(windows: Sequence[Window]) -> list[int]:
    """Return the numbers of workers that are as fast as the best one, within noise."""
    slack = max(_TOLERANCE, 2 * _noise(windows))
    best = max(window.median for window in windows)
    return [window.num_workers for window in windows if window.median >= (1 - slack) * best]


def _noise(windows: Sequence[Window]) -> float:
    return statistics.median(window.spread for window in windows)


def _waited(facts: LoaderFacts) -> str:
    return f"items waited {facts.cost.wait_fraction:.0%} of their time for a core"


def overlap_cap(cost: ItemCost, rate: Mapping[str, Any]) -> dict[str, int]:
    """Return a limit of one worker where items wait, and wait no less with two workers than with one.

    Args:
        cost: Of one item, measured alone.
        rate: What the proof saw: `num_workers` and the mean seconds of an item in one of them, `item_s`.
    """
    workers, item_s = rate["num_workers"], rate["item_s"]
    if workers < 2 or not item_s or cost.blocked_fraction < 0.3 or cost.own_s < 1e-3:
        return {}
    gain = workers * cost.own_s / item_s
    return {"waiting that does not overlap": 1} if gain < _OVERLAPS else {}


def auto_workers(
    dataset: Any,
    *,
    batch_size: int,
    has_gpu: bool = False,
) -> WorkerChoice:
    """Choose the number of workers for `--workers auto`.

    Some items are loaded here, in this process and thread, for less than a second; the model does the rest.
    Nothing is started and nothing fails: a data set that cannot be measured gets the number of cores.

    Args:
        dataset: What the workers will index; must have a length.
        batch_size: Samples a batch.
        has_gpu: Whether the batches go to a GPU.
    """
    try:
        return _measured_choice(dataset, batch_size, has_gpu=has_gpu)
    except Exception as error:  # noqa: BLE001 - a broken item is the run's to report, not this function's
        cores = effective_cores()
        return WorkerChoice(cores.effective, f"{cores.reason}; items not measured: {type(error).__name__}")


def _measured_choice(dataset: Any, batch_size: int, *, has_gpu: bool) -> WorkerChoice:
    num_items = len(dataset)
    sizes: list[tuple[int, int]] = []

    def fetch(index: int) -> None:
        sizes.append(tensor_sizes(dataset[index]))

    keys = at_least(spread_indices(num_items, 256), 24)
    cost = measure_items(fetch, keys, budget_s=_AUTO_S, min_items=8)
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
        has_gpu=has_gpu,
    )
    number = analytic(facts)
    return WorkerChoice(number, _why(facts, number))


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
            objections.append(f"{name}: no gain beyond {most} workers")
    best = analytic(facts)
    loss = 1 - facts.step_s(best) / facts.step_s(num_workers)
    if loss > 0.15:
        status = "warn" if status == "pass" else status
        objections.append(f"{best} workers would be {1 / (1 - loss):.1f} times as fast")
    return status, objections


def launch_check(facts: LoaderFacts, num_workers: int) -> Finding:
    """Return the check of a launch with a given number of workers."""
    status, objections = judge(facts, num_workers)
    data = {"num_workers": num_workers, "objections": objections}
    if status == "pass":
        return LAUNCH.finding("pass", f"{num_workers} workers are a sound choice", data=data)
    return LAUNCH.finding(
        status,
        f"num_workers={num_workers}: {'; '.join(objections)}",
        fix=f"Use num_workers={recommend(facts).num_workers}.",
        data=data,
    )


def _fewest(rates: Mapping[int, float], facts: LoaderFacts) -> int:
    """Return the fewest workers within 5 % of the best rate.

    With an unknown consumer, workers are preferred even at equal speed: they load while the device
    computes. None are taken where 0 is 1.25 times as fast, or where a whole batch loads in less than a
    millisecond. On one core without a GPU they are not preferred: the training step needs that core too.
    """
    with_workers = {number: rate for number, rate in rates.items() if number}
    if facts.consumer_rate is None and not _is_one_core_for_all(facts) and with_workers and 0 in rates:
        if facts.cost.own_s * facts.batch_size < _QUICK_BATCH_S:
            return 0
        if rates[0] >= _NO_WORKERS_MARGIN * max(with_workers.values()):
            return 0
        rates = with_workers
    best = max(rates.values())
    return min(number for number, rate in rates.items() if rate >= (1 - _TOLERANCE) * best)


def _is_one_core_for_all(facts: LoaderFacts) -> bool:
    return facts.cores.effective == 1 and not facts.has_gpu


def _prefetch(facts: LoaderFacts, num_workers: int) -> int:
    is_uneven = facts.cost.p95_over_p50 > 3 or facts.cost.blocked_fraction > 0.3
    if is_uneven and min(caps(facts, prefetch_factor=4).values()) >= num_workers:
        return 4
    return 2 if min(caps(facts).values()) >= num_workers else 1


def _item_text(facts: LoaderFacts) -> str:
    cost = facts.cost
    return (
        f"an item takes {figure_text(cost.processor_s * 1e3)} ms of processor "
        f"and waits {figure_text(cost.blocked_s * 1e3)} ms"
    )


def _why(facts: LoaderFacts, number: int) -> str:
    cost, item = facts.cost, _item_text(facts)
    if facts.must_be_zero:
        return facts.must_be_zero
    if number == 0 and facts.consumer_rate and facts.step_s(1) < facts.step_s(0):
        gain = facts.step_s(0) / facts.step_s(1) - 1
        return f"{item}: with such a training step workers would gain {gain:.1%}"
    if number == 0 and _is_one_core_for_all(facts) and cost.own_s * facts.batch_size >= _QUICK_BATCH_S:
        return f"{item}; one core and no GPU: a worker would only take turns with the training step"
    limits = caps(facts)
    tightest = min(limits, key=lambda name: limits[name])
    if number == 0 and limits[tightest] > 0:
        return f"{item}: handing it over from another process costs more than loading it"
    is_named = limits[tightest] == number and tightest not in ("cores", NOT_PROVED)
    bound = f", limited by {tightest}" if is_named else ""
    return f"{item}; {cores_text(facts.cores)}{bound}"
