"""Measure what one item costs in one thread: processor time, waiting for a core, and blocked time."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dsrface.doctor.sizing.thread_clock import WaitClock, run_delay_of_others_s

_A_READ_BYTES = 512
_QUICKER = 0.6
_FETCHED_AGAIN = 5
_MOST_AGAIN_S = 1.0


@dataclass(frozen=True)
class ItemCost:
    """The cost of one item, as means over the measured ones.

    Args:
        cpu_s: Processor seconds.
        wait_s: Seconds ready to run but without a core.
        blocked_s: Seconds waiting for a disk, a network, a lock or a sleep.
        p95_over_p50: How uneven items are, from wall times.
        num_items: Items measured.
        helper_s: Processor seconds that other threads and child processes spent for it.
        helped_s: Seconds that this thread waited for them.
        read_bytes: Bytes that came from a disk.
        again: Share of the time that the same items take when they are fetched once more; 1 when not tried.
        is_wait_estimated: The system does not tell waiting from being blocked; see `thread_clock`.
    """

    cpu_s: float
    wait_s: float
    blocked_s: float
    p95_over_p50: float
    num_items: int
    helper_s: float = 0.0
    helped_s: float = 0.0
    read_bytes: float = 0.0
    again: float = 1.0
    is_wait_estimated: bool = False

    @property
    def waits_for_disk(self) -> bool:
        """Whether a disk is to blame: it was read, and items that were read before wait less."""
        return self.read_bytes > _A_READ_BYTES and self.again < _QUICKER

    @property
    def wall_s(self) -> float:
        """Seconds one item takes on this machine as it is now."""
        return self.own_s + self.wait_s

    @property
    def own_s(self) -> float:
        """Seconds one item takes on an idle machine."""
        return self.cpu_s + self.helped_s + self.blocked_s

    @property
    def processor_s(self) -> float:
        """Processor seconds of one item, wherever they are spent."""
        return self.cpu_s + self.helper_s

    @property
    def wait_fraction(self) -> float:
        """Share of the time lost to a busy machine."""
        return self.wait_s / self.wall_s if self.wall_s else 0.0

    @property
    def blocked_fraction(self) -> float:
        """Share of the time in which more workers than cores would help."""
        return self.blocked_s / self.own_s if self.own_s else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def spread_indices(length: int, count: int, *, seed: int = 0) -> list[int]:
    """Return up to `count` different positions: the first, the last, and others drawn from equal strata."""
    if length <= count:
        return list(range(length))
    draws = random.Random(seed)
    edges = [stratum * length // count for stratum in range(count + 1)]
    inner = [draws.randrange(low, high) for low, high in zip(edges[1:-1], edges[2:-1])]
    return [0, *inner, length - 1]


def at_least(keys: Sequence[int], count: int) -> list[int]:
    """Return the keys, over again until there are `count`, so that a few items can be measured as well."""
    return [*keys] * max(1, -(-count // max(1, len(keys))))


def measure_items(
    fetch: Callable[[Any], Any],
    keys: Iterable[Any],
    *,
    budget_s: float = 2.0,
    min_items: int = 16,
    warm_up: int = 8,
) -> ItemCost | None:
    """Fetch items one by one and split their time.

    Args:
        fetch: Loads one item.
        keys: What to fetch, in order; may end early.
        budget_s: Seconds to spend, once `min_items` are measured; after four times that it stops regardless.
        min_items: Items wanted at least.
        warm_up: Items that are fetched before it is measured.

    Returns:
        The mean cost, or None when there was nothing to fetch.
    """
    walls: list[float] = []
    last: deque[Any] = deque(maxlen=_FETCHED_AGAIN)
    iterator = iter(keys)
    begin = time.perf_counter()
    for done, key in enumerate(iterator if warm_up else ()):
        fetch(key)
        if done + 1 >= warm_up or time.perf_counter() - begin > budget_s / 4:
            break
    clock = _Clock()
    begin = time.perf_counter()
    for key in iterator:
        before = time.perf_counter()
        fetch(key)
        after = time.perf_counter()
        walls.append(after - before)
        last.append(key)
        clock.tick()
        spent = after - begin
        if (spent > budget_s and len(walls) >= min_items) or spent > 4 * budget_s:
            break
    if not walls:
        return None
    cost = clock.split(walls)
    return replace(cost, again=_again(fetch, last, walls)) if cost.read_bytes > _A_READ_BYTES else cost


def _again(fetch: Callable[[Any], Any], keys: Collection[Any], walls: Sequence[float]) -> float:
    """Return the share of their time that the last items take when they are fetched once more."""
    first = sum(walls[-len(keys) :])
    if first > _MOST_AGAIN_S:
        return 1.0
    begin = time.perf_counter()
    for key in keys:
        fetch(key)
    return (time.perf_counter() - begin) / first if first else 1.0


class _Clock:
    """Reads the thread's clocks at the start and splits the wall time at the end."""

    def __init__(self) -> None:
        self._cpu = time.thread_time()
        self._waits = WaitClock()
        self._others, self._delay_of_others = _processor_s_of_others(), run_delay_of_others_s()
        self._read = _read_bytes()

    def tick(self) -> None:
        """See `WaitClock`; between items."""
        self._waits.tick()

    def split(self, walls: list[float]) -> ItemCost:
        total, count = sum(walls), len(walls)
        cpu = min(total, max(0.0, time.thread_time() - self._cpu - self._waits.spun_cpu_s))
        rest = max(0.0, total - cpu)
        waited = self._waits.waited(cpu_s=cpu, rest_s=rest, num_items=count)
        wait = waited.seconds
        helper = max(0.0, _processor_s_of_others() - self._others)
        helped = min(max(0.0, rest - wait), helper)
        if helper:  # who waits for threads that wait for a core is not blocked either
            delay = max(0.0, run_delay_of_others_s() - self._delay_of_others)
            wait += min(max(0.0, rest - wait - helped), delay)
        ordered = sorted(walls)
        median = statistics.median(ordered)
        p95 = ordered[min(count - 1, int(0.95 * count))]
        return ItemCost(
            cpu_s=cpu / count,
            wait_s=wait / count,
            is_wait_estimated=waited.is_estimated,
            blocked_s=max(0.0, rest - wait - helped) / count,
            p95_over_p50=p95 / median if median > 0 else 1.0,
            num_items=count,
            helper_s=helper / count,
            helped_s=helped / count,
            read_bytes=max(0, _read_bytes() - self._read) / count,
        )


def _processor_s_of_others() -> float:
    """Return the processor seconds of this process's other threads and of its children that have ended."""
    times = os.times()
    return time.process_time() - time.thread_time() + times.children_user + times.children_system


def _read_bytes() -> int:
    """Return the bytes that a disk delivered for this process; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
            if line.startswith("read_bytes:"):
                return int(line.split()[1])
    return 0
