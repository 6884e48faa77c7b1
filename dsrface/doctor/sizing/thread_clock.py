"""What the system tells of this thread: its processor time, its waiting for a core, its giving up of a core.

Linux counts the waiting. Elsewhere it is estimated by a twin: a loop that only spins and sees how much of the
time another thread had its core. What is not known is None, never a number.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_SPIN_S, _SPIN_EVERY_S = 0.02, 0.2
_GAP_S = 0.0005  # longer than any turn of the spinning loop; shorter than the turn of another thread


@dataclass(frozen=True)
class Waited:
    """How long a thread was ready to run but had no core.

    Args:
        seconds: Since the clock was started.
        is_estimated: The system does not tell; a spinning twin was asked.
    """

    seconds: float
    is_estimated: bool


class WaitClock:
    """Splits what a thread did not compute into waiting for a core and being blocked."""

    def __init__(self) -> None:
        self._delay, self._switches = run_delay_s(), voluntary_switches()
        self._has_twin = self._delay is None and self._switches is None
        self._spun = self._lost = self._last = 0.0
        self.tick()

    @property
    def spun_cpu_s(self) -> float:
        """Processor seconds that the twin has taken, which are no item's."""
        return self._spun - self._lost

    def tick(self) -> None:
        """Let the twin spin if it is its turn; call it between items."""
        if self._has_twin and time.perf_counter() - self._last > _SPIN_EVERY_S:
            spun, lost = spin()
            self._spun, self._lost, self._last = self._spun + spun, self._lost + lost, time.perf_counter()

    def waited(self, *, cpu_s: float, rest_s: float, num_items: int) -> Waited:
        """Return the part of `rest_s` that was waiting for a core.

        Args:
            cpu_s: Processor seconds of the items since the clock was made.
            rest_s: Their other seconds.
            num_items: Items fetched meanwhile.
        """
        delay, switches = run_delay_s(), voluntary_switches()
        if self._delay is not None and delay is not None:
            return Waited(min(rest_s, delay - self._delay), is_estimated=False)
        if self._switches is not None and switches is not None:
            # A thread that never gave up its core by itself was never blocked.
            is_never_blocked = switches - self._switches < 0.5 * num_items
            return Waited(rest_s if is_never_blocked else 0.0, is_estimated=True)
        # While it could run, the thread lost its core as often as the twin did.
        return Waited(min(rest_s, cpu_s * self._lost / self.spun_cpu_s), is_estimated=True)


def run_delay_s() -> float | None:
    """Return the seconds this thread waited for a core so far; None where the kernel does not count."""
    return _run_delay_s(_SCHEDSTAT)


def run_delay_of_others_s() -> float:
    """Return the seconds that this process's other threads waited for a core so far; 0 if that is unknown."""
    own = str(threading.get_native_id())
    others = [task for task in Path("/proc/self/task").glob("*") if task.name != own]
    return sum(_run_delay_s(task / "schedstat") or 0.0 for task in others)


def _run_delay_s(schedstat: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended has none
        ran, delayed = (int(word) for word in schedstat.read_text(encoding="ascii").split()[:2])
        if ran > 0:
            return delayed / 1e9
    return None


def voluntary_switches() -> int | None:
    """Return how often this thread gave up its core by itself; None on Windows and macOS."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return None


def spin() -> tuple[float, float]:
    """Spin for a moment; return how long, and for how much of it something else had the core, in seconds."""
    begin = last = time.perf_counter()
    lost = 0.0
    while last - begin < _SPIN_S:
        now = time.perf_counter()
        if now - last > _GAP_S:
            lost += now - last
        last = now
    return last - begin, min(lost, 0.99 * (last - begin))
