"""Whether `__getitem__` can be run by threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.text import count_text

if TYPE_CHECKING:
    from dsrface.doctor.proof.threads import ByThreads

_SHOWN = 6
_PAYS = 0.5  # two threads could then load nearly twice as much


def _threads(seen: ByThreads) -> Finding:
    data = {
        "compared": seen.num_compared,
        "varying": seen.num_varying,
        "wrong": list(seen.wrong),
        "outside": seen.outside,
    }
    if seen.error:
        return THREADS.finding("info", f"items do not load in two threads at once: {seen.error}", data=data)
    if seen.wrong:
        number, verb = count_text(len(seen.wrong), "item"), "is" if len(seen.wrong) == 1 else "are"
        return THREADS.finding(
            "info",
            f"{number} of {seen.num_compared} {verb} wrong when two threads load at once: do not use threads",
            where="\n".join(seen.wrong[:_SHOWN]),
            data=data,
        )
    same = f"two threads load the same items as one ({seen.num_compared} compared)"
    if not seen.num_compared:
        same = "two threads load items at once; these are random, so they were not compared"
    if not seen.has_lock:
        return THREADS.finding("pass", f"{same}; this Python has no interpreter lock", data=data)
    if seen.outside is None:
        return THREADS.finding("pass", f"{same}; the machine is too busy to see whether they help", data=data)
    gain = "threads would help" if seen.outside >= _PAYS else "threads would hardly help"
    share = f"{seen.outside:.0%} of an item's time is outside the interpreter lock: {gain}"
    return THREADS.finding("pass", f"{same}; {share}", data=data)


THREADS = Check(
    id="ds.threads",
    order=145,
    worst="info",
    title="whether threads could load items instead of processes",
    why=(
        "Loaders with threads, and Python without its interpreter lock, share one data set: no copies and no "
        "sending, but also one file position, one cache, one connection."
    ),
    how=(
        "The same items loaded by one thread, twice, and by two at once, compared by hash. A second thread "
        "then counts for how long loading holds the interpreter lock."
    ),
    fix="Open handles in each thread (threading.local), and draw from generators of its own.",
    runs={"threads": lambda _, seen: _threads(seen)},
)
