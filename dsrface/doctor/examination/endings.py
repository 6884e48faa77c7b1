"""What it means that a stage's process hung, died or took too much memory, as checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dsrface.doctor.checks.check import REPORT_IT
from dsrface.doctor.checks.handles import shared
from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.proof.evidence import StartEvidence, read
from dsrface.doctor.report import OUT_OF_BUDGET, Finding
from dsrface.runtime.user_code import innermost_in

UNSAID = ("worker-died", "worker-crashed")  # explain workers that ended without a word

# Step of the survey -> the check it belongs to, what it was about, what to do.
_STEPS = {
    "import torch": (
        "env.torch",
        "torch cannot be imported",
        "Reinstall it: pip install --force-reinstall torch",
    ),
    "build the data set": ("ds.build", "the data set could not be built", "Call it in a Python prompt."),
    "load items": ("ds.items", "loading items", "Try some items in a Python prompt."),
    "load items again": (
        "ds.items",
        "loading items a second time",
        "Load some items twice in a Python prompt.",
    ),
    "see which workers get items": (
        "ds.iterable_shard",
        "reading the stream as each worker does",
        "Read the stream in a Python prompt, to its end.",
    ),
    "measure items": ("ds.items", "loading items", "Try some items in a Python prompt."),
    "load items in two threads": (
        "ds.threads",
        "loading items in two threads at once",
        "Do not use threads.",
    ),
}
_AFTER_LOADING = ("load items again", "measure items")  # the items did load: slow is no failure
_STATUSES = {"ds.unpicklable": "error", "ds.threads": "info"}


def survey_failed(outcome: Outcome) -> list[Finding]:
    """Return the checks that tell which step of the survey its process did not survive."""
    if outcome.ending == "no time":
        return []  # every check that was not made is skipped, and says why
    crash = outcome.last("crash")
    if crash is not None and crash.get("ours", True):
        return [broken(_STEPS.get(outcome.stage, ("ds.unpicklable", "", ""))[0], crash)]
    id, what, fix = _STEPS.get(outcome.stage, ("ds.unpicklable", "looking at the members", ""))
    if outcome.ending == "timeout" and not outcome.is_silent and outcome.stage in _AFTER_LOADING:
        return [Finding(id, "skip", f"{what} was not done within --budget", data=OUT_OF_BUDGET)]
    if outcome.ending == "timeout" and (slow := _slow_to_begin(outcome)):
        summary = f"{slow} when --budget ran out"
        is_theirs = outcome.stage != "import torch"
        where = place(outcome) if is_theirs else ""
        return [Finding(id, "warn", summary, where=where, fix="Give a longer --budget.", data=OUT_OF_BUDGET)]
    item = outcome.last("item")
    if item is not None and outcome.stage == "load items":
        what, fix = f"loading item {item['index']}", f"Try dataset[{item['index']}] in a Python prompt."
        if outcome.ending == "timeout":
            fix += " Mend the loop or the wait that does not end there, or leave out the sample."
    return _failed(
        outcome,
        id,
        f"{what}: the process {outcome.death()}",
        status=_STATUSES.get(id, "fail"),
        where=place(outcome),
        matters="Where it stood is in the report (--json: data.stacks)." if outcome.stacks else "",
        fix=fix,
    )


def _slow_to_begin(outcome: Outcome) -> str:
    """Return what took all the time and is no hang: its own reading of files, or work on the processor."""
    if outcome.stage == "import torch":
        return "torch was still being imported"
    if outcome.stage == "build the data set" and not outcome.is_silent:
        return "the data set was still being built"
    return ""


def proof_failed(outcome: Outcome, method: str, num_workers: int, folder: str) -> list[Finding]:
    """Return the checks that tell how real workers ended.

    Args:
        outcome: Of the process that started them.
        method: Start method.
        num_workers: How many there were.
        folder: Where workers left their evidence.
    """
    id = f"worker.{method}"
    if outcome.ending == "no time":
        return [Finding(id, "skip", "left out: --budget was spent", data=OUT_OF_BUDGET)]
    crash = outcome.last("crash")
    if crash is not None and crash.get("ours", True):
        return [broken(id, crash)]
    starts = [read(folder, number) for number in (0, 1)]
    if outcome.ending == "timeout" and not outcome.is_silent:
        loaded = sum(start.num_items for start in starts)
        text = f"not proved within --budget: {num_workers} {method} workers were busy after {loaded} items"
        return [Finding(id, "skip", text, data={"items": loaded, **OUT_OF_BUDGET})]
    error = next((start.error for start in starts if start.error is not None), None)
    if outcome.ending == "timeout" and error is not None and not error["travels"]:
        return [_waits_for_an_exception(error, method, outcome)]
    if outcome.ending == "timeout":
        matters, fix = _hang(outcome, method)
        loaded = sum(start.num_items for start in starts)
        summary = (
            f"{num_workers} workers by {method} hang after {loaded} items: no sign of life, no processor time"
        )
    else:
        matters, fix = "", "Run with num_workers=0 to see the fault itself."
        summary = f"a process with {method} workers {outcome.death()}"
    checks = _failed(outcome, id, summary, status="fail", where=place(outcome), matters=matters, fix=fix)
    checks[0] = replace(checks[0], data={**checks[0].data, "blocks": [method]})
    return [*checks, *_moved(starts)]


def _moved(starts: list[StartEvidence]) -> list[Finding]:
    """Return what workers had moved of the files and connections that they share before they ended so."""
    moved = {fd: name for start in starts for fd, name in start.moved.items()}
    owners = {fd: owner for start in starts for fd, owner in start.owners.items()}
    return [shared(moved, owners, sum(start.num_items for start in starts))] if moved else []


def _waits_for_an_exception(error: Mapping[str, Any], method: str, outcome: Outcome) -> Finding:
    return Finding(
        f"worker.{method}",
        "fail",
        f"a worker raised {error['type']}, which cannot be pickled, so the loader waits for ever: "
        f"{error['text']}",
        where=error["where"],
        matters="torch sends an exception to the training process by its class, and that fails in the "
        "queue's thread.",
        fix=f"Define {error['type']} at module level, with a constructor that takes what is in its args.",
        data={
            "error": error["text"],
            "traceback": error["traceback"],
            "blocks": [method],
            "stacks": outcome.stacks,
        },
    )


def broken(id: str, crash: Mapping[str, Any]) -> Finding:
    """Return the check that broke by a fault of this program: it says nothing about the data set."""
    return Finding(
        id,
        "error",
        f"this check broke: {crash['error']}",
        fix=REPORT_IT,
        data={"traceback": crash.get("traceback", "")[-2000:]},
    )


def with_last_words(check: Finding, log: str) -> Finding:
    """Give a check on a worker that ended without a word what stands in the log: the line of the crash, or
    the exception.
    """
    if check.status != "fail" or check.data.get("explained_as") not in UNSAID:
        return check
    crash = log.rfind(_CRASH)
    if crash >= 0:
        return replace(check, where=innermost_in(log[crash:]) or check.where)
    if _GNU_OPENMP in log:
        return replace(
            check,
            summary=f"GNU OpenMP ends a forked worker: {_GNU_OPENMP}",
            matters="This process has run parallel code already (numba, for one) before the fork.",
            fix='Pass multiprocessing_context="forkserver" to the DataLoader; or run no parallel code before '
            "its workers start.",
        )
    said = _EXCEPTION.findall(log)
    if not said:
        return check
    method = check.id.partition(".")[2]
    return replace(
        check,
        summary=f"a {method} worker cannot start: {said[-1]}",
        where=innermost_in(log) or check.where,
        matters=f"A {method} worker unpickles the data set and imports its modules; that raised.",
        fix=_START_FIXES.get(said[-1].partition(":")[0], _START_FIX),
        data={**check.data, "log": log[-4000:]},
    )


_GNU_OPENMP = "fork() called from a process already using GNU OpenMP"
_CRASH = "Fatal Python error"  # faulthandler's first words
_EXCEPTION = re.compile(
    r"^((?:[A-Za-z_][\w.]*)(?:Error|Exception|Interrupt|Exit|Warning)\b.*)$", re.MULTILINE
)
# A traceback has a comma after the line number, and the dump of a stack that only waits there has none.
_RAISED_IN_QUEUE = re.compile(r'queues\.py", line \d+, in _feed')
_FIND_THE_MODULE = (
    "Import the class from a module that workers find too: installed, or in a folder on PYTHONPATH; not "
    "from a file that was loaded by its path."
)
_START_FIX = "Correct the line above: a worker runs it when it unpickles the data set or imports its modules."
_START_FIXES = {
    "ModuleNotFoundError": _FIND_THE_MODULE,
    "ImportError": _FIND_THE_MODULE,
    "AttributeError": "Define the class or function at module level, where a worker's import finds it.",
    "RecursionError": (
        "A __getattr__ that delegates must not ask for its own attribute while it is unpickled: raise "
        "AttributeError for names that start with an underscore, or define __getstate__ and __setstate__."
    ),
}


def place(outcome: Outcome) -> str:
    """Return the user's innermost line that raised, or where processes stood or died, or the last line they
    wrote.
    """
    crash = outcome.last("crash")
    if crash is not None and crash.get("where"):
        return str(crash["where"])
    stacks = outcome.stacks
    if not stacks and (at := outcome.log.rfind(_CRASH)) >= 0:
        stacks = outcome.log[at:]
    return innermost_in(stacks) or _last_line(outcome.log)


def _failed(
    outcome: Outcome, id: str, summary: str, *, status: str, where: str, matters: str, fix: str
) -> list[Finding]:
    data = {"stacks": outcome.stacks, "log": outcome.log[-4000:], "ending": outcome.ending}
    checks = [Finding(id, status, summary, where, matters, fix, data, outcome.duration_s)]
    if outcome.ending == "memory":
        checks.append(_memory_failure(outcome))
    return checks


def _memory_failure(outcome: Outcome) -> Finding:
    return Finding(
        "env.ram",
        "fail",
        f"examining the data set was stopped at 80 % of the free memory, at: {outcome.stage}",
        matters="In a real run the kernel kills a worker: 'killed by signal: Killed'.",
        fix="Use fewer workers or a smaller batch; hold data in memory maps, not in Python lists.",
        data={"log": outcome.log[-2000:]},
    )


def _hang(outcome: Outcome, method: str) -> tuple[str, str]:
    """Return why workers hang like this, and what to do about it."""
    if _RAISED_IN_QUEUE.search(outcome.log):
        return (
            "A batch cannot be pickled: the worker's queue thread printed a traceback, the loader waits on.",
            "Return tensors, numbers, texts and plain containers only (see ds.output).",
        )
    if method == "fork":
        return (
            "That line may itself wait, or need a lock or a thread (OpenMP's, a log's) of before the fork.",
            'Make locks and threads at first use in a worker, or set multiprocessing_context="forkserver".',
        )
    return (
        "The worker waits for something that never comes.",
        "The stacks are in the JSON report (data.stacks).",
    )


def _last_line(log: str) -> str:
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")[:200]
