"""The proof: real workers, started twice, load the loader's own keys; this process loads them too.

Each start hands the same batches to other workers. The first two batches of every worker are one and the
same,
loaded with the generators as the worker has them: they show who draws what. All others are loaded with the
generators set by key, so that they can be compared. This process reads last, because a handle that is opened
at first use must not be open here when workers are forked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrface.doctor import targets
from dsrface.doctor.proof import evidence as written
from dsrface.doctor.proof import verdicts
from dsrface.doctor.proof.compare import Comparison, compare_keys, compare_streams
from dsrface.doctor.proof.draws import draws_of
from dsrface.doctor.proof.epochs import epoch_is_stale
from dsrface.doctor.proof.fingerprint import copied, fingerprint, num_bytes
from dsrface.doctor.proof.keys import natural_batch, proof_batches
from dsrface.doctor.proof.loaders import make_loader
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.proof.worker import Plan
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.memory import own_bytes_of_children
from dsrface.doctor.targets import Target

_STARTS = 2
_SLOW_SHARE = 0.1  # of the time for loading that one item may take
_KEPT_BYTES = 256 << 20
_STREAM_ITEMS = 64
_STREAM_BATCH = 8


@dataclass
class Start:
    """What one start of workers delivered.

    Args:
        number: 0 or 1.
        batches: What the workers were given, in the order of delivery; empty for a stream.
        seconds: Until the first batch, and all in all.
        evidence: What the workers wrote.
        received: Fingerprint of each batch as it arrived.
        kept: The batches themselves, as far as memory allows.
        error: What the loader raised.
    """

    number: int
    batches: list[Any]
    num_natural: int
    startup_s: float = 0.0
    duration_s: float = 0.0
    worker_bytes: int = 0
    evidence: written.StartEvidence = field(default_factory=written.StartEvidence)
    received: list[str] = field(default_factory=list)
    kept: dict[int, Any] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def num_expected(self) -> int:
        """Batches that the loader should have delivered; 0 for a stream."""
        return len(self.batches)


def prove(request: Mapping[str, Any], report: Reporter, target: Target | None = None) -> None:
    """Start workers by one method and report what they show.

    Args:
        request: `method`, `num_workers`, `item_s`, `load_s`, `folder`, `survey` (facts of the survey).
        report: Takes checks and events.
        target: What to examine; built from `request["target"]` when not given.
    """
    if target is None:
        report("stage", name="build the data set")
        target = targets.build(request["target"])
    method, num_workers = request["method"], request["num_workers"]
    until = time.monotonic() + 3 * request["load_s"] + 60
    starts: list[Start] = []
    for number in range(1 if is_slow(request) else _STARTS):
        start = _begin(target, request, number)
        starts.append(start)
        report("stage", name=f"start {num_workers} workers by {method}")
        _run(start, target, request, report)
        if start.error is not None or len(start.received) < start.num_expected or time.monotonic() > until:
            break
    first = starts[0]
    report("notes", notes=first.evidence.notes)
    report("rate", **_rate(starts, num_workers))
    for check in verdicts.of_starts(starts, target, method, num_workers):
        report.check(check)
    handles = verdicts.of_handles(starts, target, method, request["survey"])
    if handles is not None:
        report.check(handles)
    if first.error is not None or len(first.received) < first.num_expected:
        return
    report("stage", name="compare with num_workers=0")
    comparison = _compare(starts, target, request)
    for check in verdicts.of_comparison(comparison, starts, target, method, request["survey"]):
        report.check(check)
    if not target.is_iterable and first.num_natural:
        draws = draws_of(starts, num_workers)
        report.check(verdicts.of_draws(draws, comparison, starts, target, request["survey"]))
    if request["survey"].get("epoch_setters") and not is_slow(request):
        report("stage", name=f"change the epoch between two passes of {method} workers")
        found = epoch_is_stale(target, request)
        report.check(verdicts.of_epochs(target, request["survey"]["epoch_setters"], is_stale=found))


def is_slow(request: Mapping[str, Any]) -> bool:
    """Return whether items take so long that each worker loads one, and no more."""
    return bool(request["item_s"] > _SLOW_SHARE * request["load_s"])


def _begin(target: Target, request: Mapping[str, Any], number: int) -> Start:
    if target.is_iterable:
        return Start(number, [], 0)
    num_workers = request["num_workers"]
    batches = proof_batches(
        target, num_workers=num_workers, item_s=request["item_s"], load_s=request["load_s"]
    )
    if not batches:
        return Start(number, [], 0)
    if is_slow(request):
        return Start(number, batches, 0)
    natural = natural_batch(target, batches)
    shift = number % len(batches)  # the same batches, by other workers
    return Start(number, [natural] * (2 * num_workers) + batches[shift:] + batches[:shift], 2)


def _run(start: Start, target: Target, request: Mapping[str, Any], report: Reporter) -> None:
    """Load everything that this start is for."""
    method, num_workers = request["method"], request["num_workers"]
    plan = Plan(
        request["folder"],
        start.number,
        num_workers,
        num_natural=start.num_natural if not target.is_iterable else (10**9 if start.number == 0 else 0),
        is_forked=method == "fork",
    )
    begin = time.perf_counter()
    kept_bytes = 0
    iterator: Any = None
    try:
        loader = make_loader(
            target,
            num_workers=num_workers,
            method=method,
            batches=start.batches,
            batch_size=min(_STREAM_BATCH, target.batch_size or _STREAM_BATCH),
            plan=plan,
            seed=start.number + 1,
        )
        iterator = iter(loader)
        for batch in iterator:
            if not start.received:
                start.startup_s = time.perf_counter() - begin
                start.worker_bytes = own_bytes_of_children()
                report("workers", startup_s=start.startup_s, worker_bytes=start.worker_bytes)
                report("stage", name=f"read batches from {method} workers")
            kept_bytes += num_bytes(batch)
            if kept_bytes < _KEPT_BYTES:
                start.kept[len(start.received)] = copied(batch)
            start.received.append(fingerprint(batch))
            if target.is_iterable and len(start.received) * _STREAM_BATCH >= _STREAM_ITEMS * num_workers:
                break
    except Exception as error:  # noqa: BLE001 - whatever the loader raises is the finding
        start.error = error
    finally:  # the traceback of an error keeps the iterator, and its workers would read on
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()  # noqa: SLF001
    start.duration_s = time.perf_counter() - begin
    start.evidence = written.read(request["folder"], start.number)


def _rate(starts: list[Start], num_workers: int) -> dict[str, Any]:
    """Return the items per second that workers loaded between them, and those that one of them would."""
    best = max(starts, key=lambda start: start.evidence.num_items)
    seconds = [s for batch in best.evidence.batches.values() for s in batch.seconds]
    if not seconds:
        return {"num_workers": num_workers, "item_s": 0.0}
    ordered = sorted(seconds)
    trimmed = ordered[: max(1, int(0.95 * len(ordered)))]
    return {
        "num_workers": num_workers,
        "item_s": sum(trimmed) / len(trimmed),
        "busy_workers": len(best.evidence.busy_workers()),
    }


def _compare(starts: list[Start], target: Target, request: Mapping[str, Any]) -> Comparison:
    reference = Reference(target)
    if target.is_iterable:
        return compare_streams(starts, reference, request["num_workers"])
    return compare_keys(starts, reference, until=time.monotonic() + 2 * request["load_s"] + 2)
