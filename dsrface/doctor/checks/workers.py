"""Start real DataLoader workers: compare their batches with num_workers=0, time settings side by side."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from dsrface.doctor import targets
from dsrface.doctor.checks.digests import detached, digest, row_digests
from dsrface.doctor.checks.items import fetch_batch
from dsrface.doctor.process.probe import MARK
from dsrface.doctor.report import Check
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.loader_model import Window
from dsrface.doctor.sizing.measure import spread_indices
from dsrface.doctor.targets import Target
from dsrface.runtime.worker_death import explain

_PROOF_BATCHES = 8
_PROOF_BATCH_ITEMS = 16
_ITERABLE_ITEMS = 64
_WINDOW_S = 0.6
_WINDOW_BATCHES = 3
_QUIET = 0.04
_MAX_ROUNDS = 7


class WorkerInit:
    """Runs in each worker before the user's own worker_init_fn: writes facts about the worker to the log."""

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        """Report and go on."""
        cv2 = sys.modules.get("cv2")
        note = {
            "worker": worker_id,
            "torch_threads": torch.get_num_threads(),
            "cv2_threads": cv2.getNumThreads() if cv2 is not None else None,
            "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        }
        with contextlib.suppress(OSError):
            os.write(2, f"{MARK}{json.dumps(note)}\n".encode())
        if self.inner is not None:
            self.inner(worker_id)


def prove(request: Mapping[str, Any], report: Reporter) -> None:
    """Start workers by one method; reports the check `worker.<method>` and what the batches were like."""
    method, num_workers = request["method"], request["num_workers"]
    report("stage", name="build the data set")
    target = targets.build(request["target"])
    _preload(method)
    size = target.num_items()
    batches = _proof_batches(size or 0, request["item_s"]) if not target.is_iterable else []
    report("stage", name=f"start {num_workers} workers by {method}")
    start = time.perf_counter()
    got: list[Any] = []
    try:
        loader = _loader(target, method, num_workers, batches or None, _PROOF_BATCH_ITEMS)
        iterator = iter(loader)
        got += [detached(batch) for batch in itertools.islice(iterator, 1)]
        startup_s = time.perf_counter() - start
        report("workers", startup_s=startup_s, worker_bytes=_worker_bytes())
        report("stage", name=f"read batches from {method} workers")
        most = len(batches) if batches else -(-_ITERABLE_ITEMS // _PROOF_BATCH_ITEMS)
        got += [detached(batch) for batch in itertools.islice(iterator, most - 1)]
        del iterator
    except Exception as error:  # noqa: BLE001 - whatever the loader raises is the finding
        report.check(_start_failed(error, method, num_workers, time.perf_counter() - start))
        return
    text = f"{num_workers} workers start by {method} in {startup_s:.1f} s and deliver {len(got)} batches"
    data = {"startup_s": round(startup_s, 3), "batches": len(got), "num_workers": num_workers}
    report.check(Check(f"worker.{method}", "pass", text, data=data, duration_s=time.perf_counter() - start))
    report("stage", name="compare with num_workers=0")
    report.check(
        _shards(target, got, num_workers) if target.is_iterable else _same(target, batches, got, method)
    )


def sweep(request: Mapping[str, Any], report: Reporter) -> None:
    """Time several numbers of workers in interleaved rounds; reports a `window` event for each."""
    target = targets.build(request["target"])
    method, batch_size = request["method"], request["batch_size"]
    _preload(method)
    report("stage", name="start the loaders to time")
    deadline = request["until"]  # on the clock of the whole examination
    half = time.monotonic() + 0.4 * (deadline - time.monotonic())
    rate = request["consumer_rate"]
    rest_s = batch_size / rate if rate else 0.0
    streams: dict[int, _Stream] = {}
    for number in request["candidates"]:
        if streams and time.monotonic() > half:
            break  # starting workers is slow here; the first ones are the likeliest
        streams[number] = _Stream(target, method, number, batch_size)
    rates: dict[int, list[float]] = {number: [] for number in streams}
    for round_index in range(_MAX_ROUNDS):
        order = sorted(streams, reverse=bool(round_index % 2))
        for number in order:
            if time.monotonic() > deadline and round_index:
                return
            value = streams[number].items_per_s(rest_s)
            rates[number].append(value)
            report("window", num_workers=number, rate=value, round=round_index)
        if round_index >= 2 and all(
            Window(number, tuple(values)).spread < _QUIET for number, values in rates.items()
        ):
            return


class _Stream:
    """An endless loader of one setting whose workers stay."""

    def __init__(self, target: Target, method: str, num_workers: int, batch_size: int) -> None:
        self.batch_size = batch_size
        self.ready = num_workers * 2
        sampler = None if target.is_iterable else _Endless(target.num_items() or 1, batch_size)
        self._loader = _loader(target, method, num_workers, sampler, batch_size)
        self._iterator = iter(self._loader)
        self._next()

    def items_per_s(self, rest_s: float) -> float:
        """Return the throughput with a consumer that rests after each batch, without batches lying ready."""
        for _ in range(self.ready):
            self._next()
        begin = time.perf_counter()
        batches = 0
        while batches < _WINDOW_BATCHES or time.perf_counter() - begin < _WINDOW_S:
            self._next()
            if rest_s:
                time.sleep(rest_s)
            batches += 1
            if time.perf_counter() - begin > 5 * _WINDOW_S:
                break
        return batches * self.batch_size / (time.perf_counter() - begin)

    def _next(self) -> None:
        try:
            next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._loader)
            next(self._iterator)


class _Endless:
    """Batches of random indices without end."""

    def __init__(self, num_items: int, batch_size: int) -> None:
        self.num_items = num_items
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield torch.randint(self.num_items, (self.batch_size,), generator=generator).tolist()


def _loader(target: Target, method: str, num_workers: int, batches: Any, batch_size: int) -> DataLoader[Any]:
    options: dict[str, Any] = (
        {"batch_sampler": batches} if batches is not None else {"batch_size": batch_size}
    )
    return DataLoader(
        target.dataset,
        num_workers=num_workers,
        collate_fn=target.collate_fn,
        worker_init_fn=WorkerInit(target.worker_init_fn) if num_workers else None,
        multiprocessing_context=method if num_workers else None,
        persistent_workers=num_workers > 0,
        **options,
    )


def _preload(method: str) -> None:
    if method == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload(["torch"])


def _proof_batches(num_items: int, item_s: float) -> list[list[int]]:
    """Return batches over the whole data set, as many as take about a second."""
    wanted = max(2 * _PROOF_BATCH_ITEMS, min(1024, int(1.0 / max(item_s, 1e-4))))
    if wanted > _PROOF_BATCHES * _PROOF_BATCH_ITEMS and item_s > 2e-3:
        wanted = _PROOF_BATCHES * _PROOF_BATCH_ITEMS
    indices = spread_indices(num_items, wanted, seed=2)
    # Strided, so that neighbours go to different workers: that is where a shared file position shows.
    count = max(1, len(indices) // _PROOF_BATCH_ITEMS)
    return [indices[start::count] for start in range(count)]


def _start_failed(error: Exception, method: str, num_workers: int, duration_s: float) -> Check:
    told = explain(error, num_workers=num_workers)
    return Check(
        f"worker.{method}",
        "fail",
        told.message,
        where=told.where,
        fix=_fix(told.hint, told.id),
        data={"error": f"{type(error).__name__}: {error}"[:4000], "explained_as": told.id},
        duration_s=duration_s,
    )


def _fix(hint: str, id: str) -> str:
    if id == "worker-unpicklable":
        return "See ds.unpicklable, ds.non_leaf and mp.main_guard, which name the members."
    if "above" in hint:  # a run's log stands there, not here
        return (
            "Run with num_workers=0 to see the fault itself; a static finding of this report may explain it."
        )
    return hint.partition(" `dsrface doctor`")[0]


def _same(target: Target, batches: list[list[int]], got: list[Any], method: str) -> Check:
    """Compare the workers' batches with those of this process; items that vary by themselves do not count."""
    start = time.perf_counter()
    differing: list[int] = []
    varying = compared = 0
    for indices, batch in zip(batches, got, strict=False):
        torch.manual_seed(1)
        once = fetch_batch(target, indices)
        torch.manual_seed(2)
        twice = fetch_batch(target, indices)
        for row, index in enumerate(indices):
            if digest(once, row, len(indices)) != digest(twice, row, len(indices)):
                varying += 1
                continue
            compared += 1
            if digest(batch, row, len(indices)) != digest(once, row, len(indices)):
                differing.append(index)
    data = {"compared": compared, "varying": varying, "differing": differing[:50]}
    duration = time.perf_counter() - start
    if differing:
        return Check(
            "worker.consistency",
            "fail",
            f"{len(differing)} of {compared} items from {method} workers differ from those of num_workers=0",
            where=", ".join(f"dataset[{index}]" for index in differing[:8]),
            matters="Training would see wrong data, without any error. A file opened in __init__ and shared "
            "by forked workers does this.",
            fix="Open files at first use in __getitem__, keyed by os.getpid(); draw from the index.",
            data=data,
            duration_s=duration,
        )
    if not compared:
        return Check(
            "worker.consistency",
            "info",
            f"all {varying} items differ from one reading to the next (augmentation): nothing to compare",
            data=data,
            duration_s=duration,
        )
    random_part = f"; {varying} vary by themselves" if varying else ""
    return Check(
        "worker.consistency",
        "pass",
        f"{compared} items from workers equal those of num_workers=0{random_part}",
        data=data,
        duration_s=duration,
    )


def _shards(target: Target, got: list[Any], num_workers: int) -> Check:
    """See whether the workers of an iterable data set deliver the same items."""
    from_workers = [digest for batch in got for digest in row_digests(batch)]
    alone = [
        digest
        for batch in itertools.islice(
            _loader(target, "", 0, None, _PROOF_BATCH_ITEMS), -(-_ITERABLE_ITEMS // _PROOF_BATCH_ITEMS)
        )
        for digest in row_digests(batch)
    ]
    repeats_alone = len(alone) - len(set(alone))
    repeats = len(from_workers) - len(set(from_workers))
    data = {"items": len(from_workers), "repeated": repeats, "repeated_alone": repeats_alone}
    if num_workers > 1 and repeats > repeats_alone and repeats >= 0.25 * len(from_workers):
        return Check(
            "ds.iterable_shard",
            "fail",
            f"{repeats} of the first {len(from_workers)} items come twice: every worker reads the whole data",
            matters=f"An epoch has {num_workers} times its items; torch gives no warning without a length.",
            fix="In __iter__ take every n-th item: info = torch.utils.data.get_worker_info(); "
            "itertools.islice(items, info.id, None, info.num_workers) when info is not None.",
            data=data,
        )
    return Check(
        "ds.iterable_shard", "pass", f"{len(from_workers)} items from workers, none twice", data=data
    )


def _worker_bytes() -> int:
    """Return the largest own memory of a worker."""
    import psutil

    sizes = [0]
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "resource_tracker" not in " ".join(process.cmdline()):
                sizes.append(process.memory_full_info().uss)
    return max(sizes)
