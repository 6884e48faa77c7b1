"""What it means that a stage's process hung, died or took too much memory, as checks."""

from __future__ import annotations

from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.report import Check
from dsrface.runtime.user_code import innermost_in

# Step of the survey -> the check it belongs to, what it was about, what to do.
_STEPS = {
    "import torch": (
        "env.torch",
        "torch cannot be imported",
        "Reinstall it: pip install --force-reinstall torch",
    ),
    "build the data set": ("ds.build", "the data set could not be built", "Call it in a Python prompt."),
    "load items": ("ds.items", "loading items", "Try some items in a Python prompt."),
    "measure items": ("ds.items", "loading items", "Try some items in a Python prompt."),
}


def survey_failed(outcome: Outcome) -> list[Check]:
    """Return the checks that tell which step of the survey its process did not survive."""
    id, what, fix = _STEPS.get(outcome.stage, ("ds.unpicklable", "looking at the members", ""))
    item = outcome.last("item")
    if item is not None and outcome.stage == "load items":
        what, fix = f"loading item {item['index']}", f"Try dataset[{item['index']}] in a Python prompt."
    return _failed(
        outcome,
        id,
        f"{what}: the process {outcome.death()}",
        status="error" if id == "ds.unpicklable" else "fail",
        where=place(outcome),
        matters="Where it stood is in the report (--json: data.stacks)." if outcome.stacks else "",
        fix=fix,
    )


def proof_failed(outcome: Outcome, method: str, num_workers: int, limit_s: float) -> list[Check]:
    """Return the checks that tell how real workers ended.

    Args:
        outcome: Of the process that started them.
        method: Start method.
        num_workers: How many there were.
        limit_s: Seconds they were given.
    """
    if outcome.ending == "timeout":
        matters, fix = _hang(outcome, method)
        summary = f"{num_workers} workers by {method} hang: no batch within {limit_s:.0f} s"
    else:
        matters, fix = "", "Run with num_workers=0 to see the fault itself."
        summary = f"a process with {method} workers {outcome.death()}"
    return _failed(
        outcome, f"worker.{method}", summary, status="fail", where=place(outcome), matters=matters, fix=fix
    )


def place(outcome: Outcome) -> str:
    """Return the user's innermost line where processes stood or died, or the last line they wrote."""
    stacks = outcome.stacks
    if not stacks and (at := outcome.log.rfind("Fatal Python error")) >= 0:
        stacks = outcome.log[at:]
    return innermost_in(stacks) or _last_line(outcome.log)


def _failed(
    outcome: Outcome, id: str, summary: str, *, status: str, where: str, matters: str, fix: str
) -> list[Check]:
    data = {"stacks": outcome.stacks, "log": outcome.log[-4000:], "ending": outcome.ending}
    checks = [Check(id, status, summary, where, matters, fix, data, outcome.duration_s)]
    if outcome.ending == "memory":
        checks.append(_memory_failure(outcome))
    return checks


def _memory_failure(outcome: Outcome) -> Check:
    return Check(
        "env.ram",
        "fail",
        f"examining the data set was stopped at 80 % of the free memory, at: {outcome.stage}",
        matters="In a real run the kernel kills a worker: 'killed by signal: Killed'.",
        fix="Use fewer workers or a smaller batch; hold data in memory maps, not in Python lists.",
        data={"log": outcome.log[-2000:]},
    )


def _hang(outcome: Outcome, method: str) -> tuple[str, str]:
    """Return why workers hang like this, and what to do about it."""
    if "_feed" in outcome.log or "queues.py" in outcome.log:
        return (
            "A batch cannot be pickled: the worker's queue thread printed a traceback, the loader waits on.",
            "Return tensors, numbers, texts and plain containers only (see ds.output).",
        )
    if method == "fork":
        return (
            "That line may itself wait; or a lock was held, or OpenMP had threads, when workers were forked.",
            'Make locks and threads at first use in a worker, or set multiprocessing_context="forkserver".',
        )
    return (
        "The worker waits for something that never comes.",
        "The stacks are in the JSON report (data.stacks).",
    )


def _last_line(log: str) -> str:
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")[:200]
