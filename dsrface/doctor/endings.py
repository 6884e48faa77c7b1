"""How a stage or a launch ended, as checks: hangs, memory, and launches judged."""

from __future__ import annotations

from dsrface.doctor.loader_model import LoaderFacts
from dsrface.doctor.probe import Outcome
from dsrface.doctor.recommend import judge, recommend
from dsrface.doctor.report import Check
from dsrface.runtime.user_code import innermost_in


def judged(facts: LoaderFacts, num_workers: int) -> Check:
    """Return the check of a launch with a given number of workers."""
    status, objections = judge(facts, num_workers)
    data = {"num_workers": num_workers, "objections": objections}
    if status == "pass":
        return Check("perf.launch", "pass", f"{num_workers} workers are a sound choice", data=data)
    return Check(
        "perf.launch",
        status,
        f"num_workers={num_workers}: {'; '.join(objections)}",
        fix=f"Use num_workers={recommend(facts).num_workers}.",
        data=data,
    )


def memory_failure(outcome: Outcome) -> Check:
    """Return the check for a process that was stopped for its memory."""
    return Check(
        "env.ram",
        "fail",
        f"examining the data set was stopped at 80 % of the free memory, at: {outcome.stage}",
        matters="In a real run the kernel kills a worker: 'killed by signal: Killed'.",
        fix="Use fewer workers or a smaller batch; hold data in memory maps, not in Python lists.",
        data={"log": outcome.log[-2000:]},
    )


def hang_place(outcome: Outcome) -> str:
    """Return the innermost line of the user's code in the stacks of the processes."""
    return innermost_in(outcome.stacks) or last_line(outcome.log)


def death_place(outcome: Outcome) -> str:
    """Return the innermost line of the user's code that a fatal signal left in the log, or its last line."""
    at = outcome.log.rfind("Fatal Python error")
    return (innermost_in(outcome.log[at:]) if at >= 0 else "") or last_line(outcome.log)


def hang_reason(outcome: Outcome, method: str) -> str:
    """Return why workers hang like this."""
    if "_feed" in outcome.log or "queues.py" in outcome.log:
        return (
            "A batch cannot be pickled: the worker's queue thread printed a traceback, the loader waits on."
        )
    if method == "fork":
        return "A lock held, or OpenMP threads alive, at the fork hangs so; or that line waits by itself."
    return "The worker waits for something that never comes."


def hang_fix(outcome: Outcome, method: str) -> str:
    """Return what to do about it."""
    if "_feed" in outcome.log or "queues.py" in outcome.log:
        return "Return tensors, numbers, texts and plain containers only (see ds.output)."
    if method == "fork":
        return (
            'Make locks and threads at first use in the worker, or pass multiprocessing_context="forkserver".'
        )
    return "The stacks are in the JSON report (data.stacks)."


def last_line(log: str) -> str:
    """Return the last line that the examined code wrote."""
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")[:200]
