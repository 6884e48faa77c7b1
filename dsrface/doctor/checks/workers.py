"""Whether real workers start, and deliver what they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.text import count_text
from dsrface.runtime.worker_death import explain

if TYPE_CHECKING:
    from dsrface.doctor.proof.prove import Proof
    from dsrface.doctor.proof.start import Start

_SILENT_END = "A StopIteration ends the epoch at that item, without any error: the rest is never seen."


def _starts(check: Check, proof: Proof) -> Finding | None:
    if check.id != f"worker.{proof.method}":
        return None
    if proof.error_here is not None:
        return check.finding("skip", "a worker met an item that raises: see ds.items")
    for start in proof.starts:
        if start.evidence.error is not None:
            return _raised(check, start, proof)
        if start.error is not None:
            return _ended(check, start, proof)
        if start.num_expected and len(start.received) < start.num_expected:
            return _ended_early(check, start, proof)
    first = proof.starts[0]
    batches = sum(len(start.received) for start in proof.starts)
    text = (
        f"{proof.num_workers} workers start by {proof.method} in {first.startup_s:.1f} s and deliver "
        f"{batches} batches, {count_text(proof.num_items, 'item')}"
    )
    data = {
        "startup_s": round(first.startup_s, 3),
        "batches": batches,
        "items": proof.num_items,
        "starts": len(proof.starts),
        "num_workers": proof.num_workers,
    }
    return check.finding("pass", text, data=data, duration_s=sum(start.duration_s for start in proof.starts))


def _raised(check: Check, start: Start, proof: Proof) -> Finding:
    """A worker raised on an item that loads here."""
    from dsrface.doctor.proof.causes import cause_of_exception

    error = start.evidence.error
    assert error is not None
    said = f"{error['type']}: {error['text']}".strip()
    made = proof.survey.get("made", ())
    cause = cause_of_exception(error, proof.method, num_moved=len(start.evidence.moved), made=made)
    summary = f"an item that loads here raises in a {proof.method} worker: {said.splitlines()[0]}"
    if not error["travels"]:
        summary += "; and that exception cannot be pickled, so the loader waits for ever"
    data = {
        "error": said,
        "traceback": error["traceback"],
        "key": proof.failed_key,
        "explained_as": "worker-exception",
        "blocks": [proof.method],
    }
    return check.finding("fail", summary, error["where"], cause.matters, cause.fix, data)


def _ended(check: Check, start: Start, proof: Proof) -> Finding:
    """The loader raised without a word from a worker: it could not start, or died."""
    assert start.error is not None
    explained = explain(start.error, num_workers=proof.num_workers, exit_codes=[*start.exit_codes.values()])
    data = {
        "error": f"{type(start.error).__name__}: {start.error}"[:4000],
        "explained_as": explained.id,
        "blocks": [proof.method],
    }
    fix = explained.hint.partition(" `dsrface doctor`")[0].replace("--workers ", "num_workers=")
    if explained.id == "worker-unpicklable":
        fix = "See ds.unpicklable, ds.non_leaf and mp.main_guard, which name the members."
    elif "above" in fix:
        fix = "A static finding of this report may explain it; the worker's last lines are in --json."
    key = start.last_key()
    matters = f"It was loading dataset[{key}]." if key else ""
    if key and any((code or 0) > 0 for code in start.exit_codes.values()):
        fix = f"Something that dataset[{key}] runs ends the process: os._exit, or a C library. Load it alone "
        fix += "in a Python prompt; raise an error instead."
    return check.finding("fail", explained.message, explained.where, matters, fix, data, start.duration_s)


def _ended_early(check: Check, start: Start, proof: Proof) -> Finding:
    missing = start.num_expected - len(start.received)
    return check.finding(
        "fail",
        f"the epoch ends after {len(start.received)} of {start.num_expected} batches, without an error",
        matters=f"{missing} batches are missing. {_SILENT_END}",
        fix="Raise IndexError or ValueError instead of StopIteration in __getitem__; guard next(iterator).",
        data={"blocks": [proof.method]},
    )


FORK = Check(
    id="worker.fork",
    order=10,
    worst="fail",
    title="real workers by fork",
    why="Locks, threads, CUDA and files that were there before the fork.",
    how=(
        "A DataLoader in a process group of its own. A hang is when workers give no sign of life and use "
        "no processor time; slow items are not one. Stacks are shown."
    ),
    fix="Make locks, threads and handles at first use in the worker; or use forkserver.",
    errors=(
        "ERROR: Unexpected segmentation fault encountered in worker.",
        "RuntimeError: DataLoader timed out after 30 seconds",
    ),
    runs={"starts": _starts},
)

SPAWN = Check(
    id="worker.spawn",
    order=20,
    worst="fail",
    title="real workers by spawn",
    why="Everything is pickled and imported again.",
    how="As worker.fork.",
    fix="Mend what ds.unpicklable, ds.non_leaf, ds.temp_tensor and mp.main_guard name.",
    errors=(
        (
            "RuntimeError: DataLoader worker (pid 1234) exited unexpectedly with exit code 1. "
            "Details are lost due to multiprocessing. Rerunning with num_workers=0 may give better "
            "error trace."
        ),
    ),
    runs={"starts": _starts},
)

FORKSERVER = Check(
    id="worker.forkserver",
    order=30,
    worst="fail",
    title="real workers by forkserver",
    why="Everything is pickled, as with spawn; a worker's death is noticed seconds later.",
    how="As worker.fork.",
    fix="As for worker.spawn.",
    errors=("ValueError: too many fds",),
    runs={"starts": _starts},
)
