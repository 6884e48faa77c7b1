"""Items of workers against those of this process, under equal generators.

An item is wrong only when this process reads it the same way each time, seconds apart, when the worker's item
differs from that by more than the last bits of a sum, and when it happens in more than one start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dsrface.doctor.proof.fingerprint import almost_equal, fingerprint, is_opaque
from dsrface.doctor.proof.transport import first_difference

if TYPE_CHECKING:
    from dsrface.doctor.proof.reference import Reference
    from dsrface.doctor.proof.start import Start

_LOOKED_INTO = 48
_A_CLOCK_S = 1.1  # many seed with whole seconds
_AT_ONCE = 3  # readings that a clock of seconds does not tell apart
_STREAM_ITEMS = 64
_MOST_ITEMS = 20_000
_WHOLE_S = 2.0  # for reading a stream to its end
_SIMULATED_S = 2.0  # for reading what all workers got, each time


@dataclass
class Comparison:
    """Items that workers delivered, held against those of this process.

    Args:
        compared: Items of workers held against this process.
        equal: Equal ones.
        rounded: Equal but for the last bits of floating-point numbers.
        opaque: Those that cannot be looked into, so that nothing is known of them.
        varying: Those that this process does not read the same way twice.
        by_clock: Those of them that only change with the time.
        wrong: Keys whose items are wrong.
        once: Keys that differed in one start only.
        agree: Whether different workers gave the same wrong items.
        lost: What got lost on the way to this process; empty when nothing did.
        num_sent: Batches compared before and after they were sent.
        gone: What this process raised after the workers had ended, where it loaded before.
        repeated: For a stream: share of a worker's items that another one delivered too.
        idle: For a stream: workers that delivered nothing.
        num_alone: For a stream that ended: its items without workers; 0 for one that did not.
        num_shared: Its items from all workers; None when they were stopped before its end.
        num_missing: Items that no worker delivered, where the workers delivered all others.
        is_unique: For a stream: no two of its items are equal, as far as it was read here.
        is_spent: For a stream: a second pass delivers nothing.
    """

    compared: int = 0
    equal: int = 0
    rounded: int = 0
    opaque: int = 0
    varying: int = 0
    by_clock: int = 0
    wrong: list[Any] = field(default_factory=list)
    once: list[Any] = field(default_factory=list)
    agree: bool = False
    lost: str = ""
    num_sent: int = 0
    gone: str = ""
    repeated: float = 0.0
    idle: int = 0
    num_alone: int = 0
    num_shared: int | None = None
    num_missing: int = 0
    is_unique: bool = False
    is_spent: bool = False


def compare_keys(starts: list[Start], reference: Reference, *, until: float) -> Comparison:
    """Compare the items of a map-style data set.

    Args:
        starts: What workers delivered.
        reference: This process.
        until: On the monotonic clock; what is left then is not compared.
    """
    found = Comparison()
    suspects: dict[str, _Suspect] = {}
    here: dict[str, list[str]] = {}
    first: Any = None
    begin = time.monotonic()
    for start in starts:
        for number, keys in enumerate(start.batches):
            batch = start.evidence.batches.get(number)
            if batch is None or batch.is_natural or not batch.items:
                continue
            if repr(keys) not in here:
                if time.monotonic() > until and found.compared:
                    continue
                try:
                    here[repr(keys)] = reference.digests(keys)
                except Exception as error:  # noqa: BLE001 - it loaded before and in workers
                    found.gone = f"{type(error).__name__}: {error}"
                    return found
            first = keys if first is None else first
            _count(found, suspects, start, number, keys, here[repr(keys)])
    if first is not None and not suspects and begin - starts[0].evidence.last_s < _A_CLOCK_S:
        time.sleep(max(0.0, begin + _A_CLOCK_S - time.monotonic()))
        _read_later(suspects, first, here[repr(first)], reference)
    if suspects:
        _look_into(found, suspects, starts, reference)
    _look_at_transport(found, starts, reference)
    return found


@dataclass
class _Suspect:
    """One place in one batch whose item differs."""

    keys: Any
    row: int
    here: set[str]
    workers: dict[int, str] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)


def _count(
    found: Comparison, suspects: dict[str, _Suspect], start: Start, number: int, keys: Any, here: list[str]
) -> None:
    there = start.evidence.batches[number].items
    for row, digest in enumerate(there):
        expected = here[row] if row < len(here) else ""
        found.compared += 1
        if is_opaque(expected):
            found.opaque += 1
            continue
        if digest == expected:
            found.equal += 1
            continue
        suspect = suspects.setdefault(f"{keys!r}/{row}", _Suspect(keys, row, {expected}))
        suspect.workers[start.number] = digest
        suspect.numbers[start.number] = number


def _read_later(suspects: dict[str, _Suspect], keys: Any, here: list[str], reference: Reference) -> None:
    """Suspect the items of a batch that are others now: all was read within one second of a clock."""
    for row, digest in enumerate(here):
        suspect = _Suspect(keys, row, {digest})
        if _again(reference, suspect) != digest:
            suspects[f"{keys!r}/{row}"] = suspect


def _look_into(
    found: Comparison, suspects: dict[str, _Suspect], starts: list[Start], reference: Reference
) -> None:
    """Read the differing items again, at once and after more than a second, and judge each."""
    chosen = list(suspects.values())[:_LOOKED_INTO]
    soon = [_again(reference, suspect) for suspect in chosen]
    time.sleep(_A_CLOCK_S)
    later = [_again(reference, suspect) for suspect in chosen]
    judged: list[_Suspect] = []
    varying = 0
    timed: list[_Suspect] = []
    for suspect, second, third in zip(chosen, soon, later):
        if second not in suspect.here or third not in suspect.here:
            varying += 1
            now = {_again(reference, suspect) for _ in range(_AT_ONCE)}
            if second != third and len(now) == 1:
                timed.append(suspect)
        else:
            judged.append(suspect)
    rounded = [suspect for suspect in judged if _is_rounding(suspect, starts, reference)]
    wrong = [suspect for suspect in judged if suspect not in rounded]
    scale = len(suspects) / max(1, len(chosen))
    found.varying = round(varying * scale)
    # A few may agree by chance, such as the times that loading took.
    if timed and 2 * len(timed) >= varying and _varies_by_itself(reference, timed[0]):
        found.by_clock = round(len(timed) * scale)
    found.rounded = round(len(rounded) * scale)
    in_starts = {number for suspect in wrong for number in suspect.workers}
    keys = [_key(suspect) for suspect in wrong]
    if len(in_starts) > 1 or len(starts) == 1:
        found.wrong = keys
        found.agree = all(len(set(s.workers.values())) == 1 and len(s.workers) > 1 for s in wrong)
    else:
        found.once = keys


def _again(reference: Reference, suspect: _Suspect) -> str:
    try:
        if reference.target.is_batched and not getattr(reference.target.dataset, "__getitems__", None):
            return fingerprint(reference.item(suspect.keys[suspect.row]))
        return reference.digests(suspect.keys)[suspect.row]
    except Exception as error:  # noqa: BLE001 - an item that raises now varies
        return f"raised {type(error).__name__}"


def _varies_by_itself(reference: Reference, suspect: _Suspect) -> bool:
    """Return whether an item is another after a second in which nothing is loaded that it may depend on."""
    before = _again(reference, suspect)
    time.sleep(_A_CLOCK_S)
    return _again(reference, suspect) != before


def _is_rounding(suspect: _Suspect, starts: list[Start], reference: Reference) -> bool:
    """Return whether the worker's batch equals this process's but for the last bits."""
    for start in starts:
        number = suspect.numbers.get(start.number)
        if number is None:
            continue
        if number not in start.kept:
            return False
        try:
            if not almost_equal(start.kept[number], reference.batch(suspect.keys)):
                return False
        except Exception:  # noqa: BLE001 - what cannot be compared is not equal
            return False
    return True


def _key(suspect: _Suspect) -> Any:
    return suspect.keys[suspect.row] if isinstance(suspect.keys, (list, tuple)) else suspect.keys


def _look_at_transport(found: Comparison, starts: list[Start], reference: Reference) -> None:
    """See whether batches arrive as they were sent."""
    for start in starts:
        for number, received in enumerate(start.received):
            batch = start.evidence.batches.get(number)
            if batch is None or not batch.digest:
                continue
            found.num_sent += 1
            if received != batch.digest and not found.lost and number in start.kept:
                found.lost = _loss(start.batches[number], start.kept[number], reference)


def _loss(keys: Any, received: Any, reference: Reference) -> str:
    try:
        return first_difference(reference.batch(keys), received)
    except Exception:  # noqa: BLE001 - then nothing certain can be said
        return ""


def compare_streams(starts: list[Start], reference: Reference, num_workers: int) -> Comparison:
    """Compare the items of an iterable data set: each worker's with those it gets when simulated here."""
    found = Comparison()
    natural, controlled = starts[0], starts[-1]
    found.repeated = _repeated(natural)
    found.idle = num_workers - len(natural.evidence.busy_workers())
    reference.remember()
    try:
        whole = reference.stream(_MOST_ITEMS, limit_s=_WHOLE_S)
        alone = whole[:_STREAM_ITEMS]
        has_ended = len(whole) < _MOST_ITEMS and reference.has_ended
        found.is_spent = has_ended and bool(whole) and not reference.stream(1)
    except Exception as error:  # noqa: BLE001
        found.gone = f"{type(error).__name__}: {error}"
        return found
    found.is_unique = len(set(whole)) == len(whole)
    if has_ended:
        found.num_alone = len(whole)
        if controlled.is_whole and controlled is not natural:
            found.num_shared = controlled.evidence.num_items
            found.num_missing = _missing(whole, controlled, num_workers) if found.is_unique else 0
    if len(set(alone)) < len(alone):
        found.repeated = max(0.0, found.repeated - (1 - len(set(alone)) / len(alone)))
    elif not found.repeated:
        found.repeated = _repeated(controlled) if controlled is not natural else 0.0
    if controlled is natural:
        return found
    for worker in range(num_workers):
        there = _items_of(controlled, worker)
        if not there:
            continue
        expected = _simulated(reference, worker, num_workers, len(there))
        again = _simulated(reference, worker, num_workers, len(there))
        if expected is None or again is None:
            continue
        for row, digest in enumerate(there[: len(expected)]):
            found.compared += 1
            if digest == expected[row]:
                found.equal += 1
            elif row >= len(again) or expected[row] != again[row]:
                found.varying += 1
            else:
                found.once.append(f"item {row} of worker {worker}")
    return found


def _missing(whole: list[str], start: Start, num_workers: int) -> int:
    """Return how many of a stream's unique items no worker delivered; 0 where others differ here too."""
    there = [digest for worker in range(num_workers) for digest in _items_of(start, worker)]
    missing = len(set(whole) - set(there))
    return missing if missing == len(whole) - len(there) else 0


def _simulated(reference: Reference, worker: int, num_workers: int, count: int) -> list[str] | None:
    try:
        limit_s = _SIMULATED_S / num_workers
        return reference.stream(count, worker=worker, num_workers=num_workers, limit_s=limit_s)
    except Exception:  # noqa: BLE001 - a stream that knows that this is no worker
        return None


def _items_of(start: Start, worker: int) -> list[str]:
    batches = sorted(start.evidence.batches.values(), key=lambda batch: batch.number)
    return [digest for batch in batches if batch.worker == worker for digest in batch.items]


def _repeated(start: Start) -> float:
    """Return the share of items that another worker delivered too."""
    by_worker: dict[int, set[str]] = {}
    for batch in start.evidence.batches.values():
        by_worker.setdefault(batch.worker, set()).update(batch.items)
    if len(by_worker) < 2:
        return 0.0
    sets = list(by_worker.values())
    return max(len(a & b) / max(1, min(len(a), len(b))) for n, a in enumerate(sets) for b in sets[n + 1 :])
