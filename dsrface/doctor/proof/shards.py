"""How many workers of a stream get any items: each number of workers is simulated here."""

from __future__ import annotations

import time

from dsrface.doctor.proof.reference import as_worker
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.targets import Target

_TRIED = (2, 4, 8, 16, 32)
_LIMIT_S = 3.0
_END = object()


def most_workers(target: Target, report: Reporter) -> int | None:
    """Return the most workers that all get items, or None where no number left one idle (or none could be
    tried).

    Args:
        target: A stream.
        report: Hears that it goes on.
    """
    begin = time.perf_counter()
    most: int | None = None
    for number in _TRIED:
        report("stage", name="see which workers get items")
        idle = 0
        for worker in range(number):
            if time.perf_counter() - begin > _LIMIT_S:
                return None
            try:
                idle += not _gets_something(target, worker, number)
            except Exception:  # noqa: BLE001 - a stream that refuses more workers than shards says so like this
                idle += 1
        if idle:
            return _between(most or 1, number, idle)
        most = number
    return None


def _gets_something(target: Target, worker: int, num_workers: int) -> bool:
    with as_worker(target.dataset, worker, num_workers) as seen:
        if target.worker_init_fn is not None:
            target.worker_init_fn(worker)
        return next(iter(seen), _END) is not _END


def _between(works: int, fails: int, idle: int) -> int:
    """Return the largest number that works, given that so many of the next one tried were idle."""
    return max(works, fails - idle) if fails - idle < fails else works
