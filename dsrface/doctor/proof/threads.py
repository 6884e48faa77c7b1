"""Whether two threads load the same items as one, and how long an item holds the interpreter lock."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.sizing.thread_clock import run_delay_s

_OFTEN_S, _NEVER_S = 2e-5, 1.0  # between forced changes of the thread that has the lock
_LIMIT_S = 8.0
_MEASURED_S = 0.1
_A_TURN_S = 1e-4  # longer than a turn of the ticking thread that is not disturbed
_A_MOMENT_S = 2e-3
_READINGS, _AGAIN_S = 40, 2.0  # by one thread: what is drawn by the toss of a coin shows both sides then
_CALM = 0.9
_TRIES, _SEEN = 5, 0.5  # a measurement counts when its thread had a core for that share of the time


@dataclass(frozen=True)
class ByThreads:
    """What two threads did.

    Args:
        num_compared: Items that one thread reads the same way twice.
        num_varying: Items that it does not: they draw random numbers, say.
        wrong: Keys whose items were others when two threads loaded at once.
        error: What a thread raised or that it did not end; empty when all went well.
        outside: Share of an item's time in which other threads can have the interpreter lock; None when
            there is no such lock, or when the machine was too busy to see it.
        has_lock: This Python has an interpreter lock.
    """

    num_compared: int = 0
    num_varying: int = 0
    wrong: tuple[str, ...] = ()
    error: str = ""
    outside: float | None = None
    has_lock: bool = True


def by_threads(load: Callable[[Any], Any], keys: Sequence[Any]) -> ByThreads:
    """Load items by one thread, twice, and by two at once.

    Args:
        load: Loads one item.
        keys: Of items that load.
    """
    once = [fingerprint(load(key)) for key in keys]
    again = [fingerprint(load(key)) for key in keys]
    steady = [at for at in range(len(keys)) if once[at] == again[at]]
    seen: dict[int, list[str]] = {at: [] for at in range(len(keys))}
    errors: list[str] = []

    def work(order: list[int]) -> None:
        try:
            for at in order:
                seen[at].append(fingerprint(load(keys[at])))
        except Exception as error:  # noqa: BLE001 - foreign code
            errors.append(f"{type(error).__name__}: {error}")

    orders = [list(range(len(keys))), list(range(len(keys)))[::-1]]
    threads = [threading.Thread(target=work, args=(order,), daemon=True) for order in orders]
    until = time.monotonic() + _LIMIT_S
    with _switching_every(_OFTEN_S):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        errors.append(f"two threads did not end within {_LIMIT_S:.0f} s")
    others = [at for at in steady if set(seen[at]) - {once[at]}]
    until = time.monotonic() + _AGAIN_S
    by_chance = {at for at in others if _varies(functools.partial(load, keys[at]), once[at], until)}
    steady = [at for at in steady if at not in by_chance]
    wrong = tuple(repr(keys[at])[:80] for at in others if at not in by_chance)
    outside = None if errors else outside_the_lock(lambda: _over_and_over(load, keys))
    return ByThreads(len(steady), len(keys) - len(steady), wrong, "; ".join(errors[:1]), outside, has_lock())


def _varies(load: Callable[[], Any], first: str, until: float) -> bool:
    """Return whether one thread reads an item in another way too, as soon as it does."""
    readings = itertools.takewhile(lambda _: time.monotonic() < until, range(_READINGS))
    return any(fingerprint(load()) != first for _ in readings)


def _over_and_over(load: Callable[[Any], Any], keys: Sequence[Any]) -> None:
    until = time.monotonic() + _MEASURED_S
    for key in itertools.cycle(keys):
        load(key)
        if time.monotonic() > until:
            return


def has_lock() -> bool:
    """Return whether this Python has an interpreter lock."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def outside_the_lock(action: Callable[[], Any]) -> float | None:
    """Return the share of an action's time in which the interpreter lock is free, from 0 to 1.

    A second thread takes the lock for microseconds whenever it is given away of one's own accord, and adds up
    how long it had to wait for it. What both threads waited for a core, which Linux counts, is taken out: a
    thread that loses its core keeps the lock. While the second thread has no core it sees nothing; where that
    is most of the time, try after try, the answer is None. Elsewhere a sleep, which needs no lock, tells
    whether the machine is calm enough.
    """
    if not has_lock():
        return None
    with _switching_every(_NEVER_S), _Ticker() as ticker:
        for _ in range(_TRIES):
            share = _share_outside(action, ticker)
            if share is not None and (run_delay_s() is not None or _is_calm(ticker)):
                return share
    return None


def _is_calm(ticker: _Ticker) -> bool:
    """Return whether the second thread had a core whenever it wanted one, during a sleep of this one."""
    return (_share_outside(lambda: time.sleep(_MEASURED_S / 2), ticker) or 0.0) > _CALM


def _share_outside(action: Callable[[], Any], ticker: _Ticker) -> float | None:
    held, unseen = ticker.held_s, ticker.unseen_s
    delay, cpu, begin = run_delay_s() or 0.0, time.thread_time(), time.perf_counter()
    action()
    wall = time.perf_counter() - begin
    delay, cpu = (run_delay_s() or 0.0) - delay, time.thread_time() - cpu
    time.sleep(_A_MOMENT_S)  # the ticker sees the end
    held, unseen = ticker.held_s - held, ticker.unseen_s - unseen
    if unseen > (1 - _SEEN) * wall or delay > (1 - _SEEN) * wall:
        return None
    held *= wall / (wall - unseen)
    computing = held / (1 + delay / max(1e-9, cpu))  # the rest of it had no core
    return min(1.0, max(0.0, 1 - computing / (wall - delay)))


class _Ticker(threading.Thread):
    """A thread that takes the lock over and over, and adds up how long others held it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.held_s = self.unseen_s = 0.0  # the latter: it had no core itself
        self._ends = threading.Event()

    def __enter__(self) -> _Ticker:  # noqa: PYI034 - Self needs Python 3.11
        self.start()
        time.sleep(_A_MOMENT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()

    def run(self) -> None:
        last, delay = time.perf_counter(), run_delay_s() or 0.0
        while not self._ends.is_set():
            time.sleep(0)  # gives the lock away
            gap = time.perf_counter() - last
            if gap > _A_TURN_S:
                before, delay = delay, run_delay_s() or 0.0
                unseen = min(gap, delay - before)
                self.unseen_s += unseen
                self.held_s += gap - unseen
            last = time.perf_counter()


@contextlib.contextmanager
def _switching_every(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
