"""Measure what one item costs in one thread: processor time, waiting for a core, and blocked time."""

from __future__ import annotations

import contextlib
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_WARM_UP = 8


@dataclass(frozen=True)
class ItemCost:
    """The cost of one item, as means over the measured ones.

    Args:
        cpu_s: Processor seconds.
        wait_s: Seconds ready to run but without a core; 0 when the system does not tell.
        blocked_s: Seconds waiting for a disk, a network, a lock or a sleep.
        p95_over_p50: How uneven items are, from wall times.
        num_items: Items measured.
    """

    cpu_s: float
    wait_s: float
    blocked_s: float
    p95_over_p50: float
    num_items: int

    @property
    def wall_s(self) -> float:
        """Seconds one item takes on this machine as it is now."""
        return self.cpu_s + self.wait_s + self.blocked_s

    @property
    def wait_fraction(self) -> float:
        """Share of the time lost to a busy machine."""
        return self.wait_s / self.wall_s if self.wall_s else 0.0

    @property
    def blocked_fraction(self) -> float:
        """Share of the time in which more workers than cores would help."""
        needed = self.cpu_s + self.blocked_s
        return self.blocked_s / needed if needed else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def spread_indices(num_items: int, count: int, *, seed: int = 0) -> list[int]:
    """Return up to `count` different indices: the first, the last, and others drawn from equal strata."""
    if num_items <= count:
        return list(range(num_items))
    draws = random.Random(seed)
    edges = [stratum * num_items // count for stratum in range(count + 1)]
    inner = [draws.randrange(low, high) for low, high in itertools.pairwise(edges[1:-1])]
    return [0, *inner, num_items - 1]


def at_least(keys: Sequence[int], count: int) -> list[int]:
    """Return the keys, over again until there are `count`, so that a few items can be measured as well."""
    return [*keys] * max(1, -(-count // max(1, len(keys))))


def measure_items(
    fetch: Callable[[Any], Any], keys: Iterable[Any], *, budget_s: float = 2.0, min_items: int = 16
) -> ItemCost | None:
    """Fetch items one by one and split their time.

    Args:
        fetch: Loads one item.
        keys: What to fetch, in order; may end early.
        budget_s: Seconds to spend, once `min_items` are measured; after four times that it stops regardless.
        min_items: Items wanted at least.

    Returns:
        The mean cost, or None when there was nothing to fetch.
    """
    walls: list[float] = []
    iterator = iter(keys)
    begin = time.perf_counter()
    for done, key in enumerate(iterator):
        fetch(key)
        if done + 1 >= _WARM_UP or time.perf_counter() - begin > budget_s / 4:
            break
    clock = _Clock()
    begin = time.perf_counter()
    for key in iterator:
        before = time.perf_counter()
        fetch(key)
        after = time.perf_counter()
        walls.append(after - before)
        spent = after - begin
        if (spent > budget_s and len(walls) >= min_items) or spent > 4 * budget_s:
            break
    if not walls:
        return None
    return clock.split(walls)


class _Clock:
    """Reads the thread's clocks at the start and splits the wall time at the end."""

    def __init__(self) -> None:
        self._cpu = time.thread_time()
        self._waited = _run_delay_s()
        self._switches = _voluntary_switches()

    def split(self, walls: list[float]) -> ItemCost:
        total, count = sum(walls), len(walls)
        cpu = min(total, time.thread_time() - self._cpu)
        rest = max(0.0, total - cpu)
        waited, now = self._waited, _run_delay_s()
        if waited is not None and now is not None:
            wait = min(rest, now - waited)
        else:
            # Without the scheduler's word: a thread that never gave up its core by itself was never blocked.
            switches = _voluntary_switches() - self._switches
            wait = rest if switches < 0.5 * count else 0.0
        ordered = sorted(walls)
        median = statistics.median(ordered)
        p95 = ordered[min(count - 1, int(0.95 * count))]
        return ItemCost(
            cpu_s=cpu / count,
            wait_s=wait / count,
            blocked_s=max(0.0, rest - wait) / count,
            p95_over_p50=p95 / median if median > 0 else 1.0,
            num_items=count,
        )


def _run_delay_s() -> float | None:
    """Return the seconds this thread waited for a core so far; None where the kernel does not count."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ran, delayed = (int(word) for word in _SCHEDSTAT.read_text(encoding="ascii").split()[:2])
        if ran > 0:
            return delayed / 1e9
    return None


def _voluntary_switches() -> int:
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return 1 << 30  # unknown: every rest then counts as blocked
