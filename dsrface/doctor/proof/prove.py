"""The proof: real workers, started twice, load the loader's own keys; this process loads them too.

Each start hands the same batches to other workers. The first two batches of every worker are one and the
same, loaded with the generators as the worker has them: they show who draws what. All others are loaded with
the generators set by key, so that they can be compared. This process reads last, because a handle that is
opened at first use must not be open here when workers are forked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrface.doctor import targets
from dsrface.doctor.checks.registry import run_stage
from dsrface.doctor.proof import evidence as written
from dsrface.doctor.proof.compare import Comparison, compare_keys, compare_streams
from dsrface.doctor.proof.draws import Draws, draws_of
from dsrface.doctor.proof.epochs import epoch_is_stale
from dsrface.doctor.proof.fingerprint import copied, fingerprint
from dsrface.doctor.proof.handles import HandleWatch, can_watch
from dsrface.doctor.proof.keys import natural_batch, proof_batches
from dsrface.doctor.proof.loaders import make_loader
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.proof.start import Start
from dsrface.doctor.proof.worker import Plan
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.memory import own_bytes_of_children, tensor_sizes
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.snapshot import Snapshot

_STARTS = 2
_SLOW_SHARE = 0.1  # of the time for loading that one item may take
_KEPT_BYTES = 256 << 20
_STREAM_ITEMS = 64
_STREAM_BATCH = 8


@dataclass
class Proof:
    """What the checks of real workers look at.

    Args:
        target: What was loaded.
        method: How workers were started.
        num_workers: Workers of each start.
        survey: What the survey knows: handles, generators, counters, setters of the epoch, finalizers.
        starts: What each start delivered.
        error_here: What a worker met that this process meets too; None when there is no such thing.
        failed_key: First key of the batch at which a worker raised.
        comparison: Workers against this process; None when it did not come to that.
        draws: What workers drew; None for a stream.
        epoch_is_stale: Whether workers that stay repeat the first epoch; None when no item has shown it.
    """

    target: Target
    method: str
    num_workers: int
    survey: Mapping[str, Any]
    starts: list[Start] = field(default_factory=list)
    error_here: Mapping[str, Any] | None = None
    failed_key: str = ""
    comparison: Comparison | None = None
    draws: Draws | None = None
    epoch_is_stale: bool | None = None

    @property
    def num_items(self) -> int:
        """Items that workers loaded."""
        return sum(start.evidence.num_items for start in self.starts)

    @property
    def is_complete(self) -> bool:
        """Whether the first start delivered what it was asked for."""
        first = self.starts[0]
        return first.error is None and len(first.received) >= first.num_expected


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
    proof = Proof(target, request["method"], request["num_workers"], request["survey"])

    def tell(stage: str) -> None:
        for finding in run_stage(stage, proof):
            report.check(finding)

    fresh = Snapshot(target.roots)
    for number in range(1 if is_slow(request) else _STARTS):
        start = _begin(target, request, number)
        proof.starts.append(start)
        report("stage", name=f"start {proof.num_workers} workers by {proof.method}")
        _run(start, target, request, report)
        if start.error is not None or len(start.received) < start.num_expected:
            break
    report("notes", notes=proof.starts[0].evidence.notes)
    report("rate", **_rate(proof.starts, proof.num_workers))
    report("stage", name="compare with num_workers=0")
    _meet_here(proof)
    tell("starts")
    if not proof.is_complete:
        return
    proof.comparison = _compare(proof, request)
    if not target.is_iterable and proof.starts[0].num_natural:
        proof.draws = draws_of(proof.starts, proof.num_workers)
    tell("compared")
    if proof.survey.get("epoch_setters"):
        if not is_slow(request):
            fresh.put_back()
            report("stage", name=f"change the epoch between two passes of {proof.method} workers")
            proof.epoch_is_stale = epoch_is_stale(target, request)
        tell("epochs")


def _meet_here(proof: Proof) -> None:
    """When a worker raised, see whether the same keys raise in this process."""
    start = next((start for start in proof.starts if start.evidence.error is not None), None)
    if start is None or start.evidence.error is None:
        return
    error, number = start.evidence.error, int(start.evidence.error["number"])
    keys = start.batches[number] if number < len(start.batches) else None
    proof.failed_key = repr(keys[0] if isinstance(keys, (list, tuple)) and keys else keys)[:60]
    is_spoiled = start.evidence.moved or proof.survey.get("handles")  # by what workers have read from it
    if keys is None or is_spoiled or _is_foreign_to_forks(proof):
        return
    try:
        Reference(proof.target).batch(keys)
    except BaseException as here:  # noqa: BLE001 - StopIteration too
        if type(here).__name__ == error["type"]:
            proof.error_here = error


def _is_foreign_to_forks(proof: Proof) -> bool:
    """Return whether this process, a fork itself, cannot load the first item, which the original did."""
    first = list(proof.target.first_keys(1)) if proof.target.is_copy and not proof.target.is_iterable else []
    if not first or repr(first[0])[:200] in proof.survey.get("failing", ()):
        return False
    try:
        Reference(proof.target).batch(first)
    except BaseException:  # noqa: BLE001 - whatever it is
        return True
    return False


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
    failing = set(request["survey"].get("failing", ()))
    if failing and not target.has_own_batches:  # what raises here needs no worker to show it
        batches = [_without(batch, failing) for batch in batches]
        batches = [batch for batch in batches if batch is not None]
    if not batches:
        return Start(number, [], 0)
    if is_slow(request):
        return Start(number, batches, 0)
    natural = natural_batch(target, batches)
    shift = number % len(batches)  # the same batches, by other workers
    return Start(number, [natural] * (2 * num_workers) + batches[shift:] + batches[:shift], 2)


def _without(batch: Any, failing: set[str]) -> Any:
    """Return a batch of keys without those that raise; None when none is left."""
    if not isinstance(batch, list):
        return None if repr(batch)[:200] in failing else batch
    return [key for key in batch if repr(key)[:200] not in failing] or None


def _run(start: Start, target: Target, request: Mapping[str, Any], report: Reporter) -> None:
    """Load everything that this start is for."""
    method, num_workers = request["method"], request["num_workers"]
    plan = Plan(
        request["folder"],
        start.number,
        num_workers,
        num_natural=start.num_natural if not target.is_iterable else (10**9 if start.number == 0 else 0),
        is_forked=method == "fork",
        with_connections=not target.is_running,
    )
    watch = HandleWatch(with_connections=False) if plan.is_forked and can_watch() else None
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
            kept_bytes += tensor_sizes(batch)[0]
            if kept_bytes < _KEPT_BYTES:
                start.kept[len(start.received)] = copied(batch)
            start.received.append(fingerprint(batch))
            report("progress", done=len(start.received), total=start.num_expected)
            if target.is_iterable and _is_enough(start, num_workers, time.perf_counter() - begin, request):
                break
        else:
            start.is_whole = True
    except Exception as error:  # noqa: BLE001 - whatever the loader raises is the finding
        start.error = error
        workers = enumerate(getattr(iterator, "_workers", ()))
        start.exit_codes = {number: worker.exitcode for number, worker in workers if worker.exitcode}
    finally:  # the traceback of an error keeps the iterator, and its workers would read on
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()  # noqa: SLF001
    start.duration_s = time.perf_counter() - begin
    start.evidence = written.read(request["folder"], start.number)
    if watch is not None and not target.is_running:  # a worker may have closed what it has moved
        start.evidence.moved.update(watch.moved())


def _is_enough(start: Start, num_workers: int, seconds: float, request: Mapping[str, Any]) -> bool:
    """Return whether a stream was read far enough; the second start goes to its end where there is time."""
    if start.number:
        return bool(seconds - start.startup_s > request["load_s"])
    return len(start.received) * _STREAM_BATCH >= _STREAM_ITEMS * num_workers


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


def _compare(proof: Proof, request: Mapping[str, Any]) -> Comparison:
    reference = Reference(proof.target)
    if proof.target.is_iterable:
        return compare_streams(proof.starts, reference, proof.num_workers)
    return compare_keys(proof.starts, reference, until=time.monotonic() + 2 * request["load_s"] + 2)
