"""Whether workers can start beside what building the data set left behind: scripts, CUDA, threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from dsrface.doctor.checks.members import places
from dsrface.doctor.facts import Network
from dsrface.doctor.observe import num_threads
from dsrface.doctor.report import Check, guarded
from dsrface.doctor.targets import Target, unguarded_lines
from dsrface.doctor.trace.pickling import Trace
from dsrface.runtime.text import count_text
from dsrface.runtime.user_code import is_users


def checks(target: Target, found: Trace, methods: Sequence[str], *, threads_before: int) -> list[Check]:
    """Return the checks.

    Args:
        target: What was built.
        found: The trace of its members.
        methods: Start methods the user means to use.
        threads_before: Threads of this process before it was built.
    """
    return [
        guarded("mp.main_guard", lambda: _main_guard(target, found, methods)),
        guarded("mp.cuda_fork", lambda: _cuda_fork(found, methods)),
        guarded("mp.threads", lambda: _live_threads(threads_before, methods)),
    ]


def finalizer_check(having: Sequence[str], removing: Sequence[str], methods: Sequence[str]) -> Check:
    """Return `ds.finalizer`: whether the end of a worker removes what the data set needs.

    Args:
        having: Members whose class has `__del__`.
        removing: Those of them that remove files.
        methods: Start methods the user means to use.
    """
    copies = [method for method in methods if method != "fork"]
    if not removing:
        text = f"{having[0]} removes no files" if having else "no member acts when it is destroyed"
        return Check("ds.finalizer", "pass", text)
    return Check(
        "ds.finalizer",
        "fail" if copies else "info",
        f"{removing[0].partition(' ')[0]} removes files when the object is destroyed",
        where="\n".join(removing),
        matters="A worker that is not forked has a copy of the data set, which is destroyed when the "
        "worker ends: "
        "after the first epoch the files are gone. No worker was started so, to keep them.",
        fix="Act only in the process that made the files: remember os.getpid() in __init__, compare in "
        "__del__; "
        "or clean up in the main program, e.g. with tempfile.TemporaryDirectory.",
        data={"members": list(removing), "blocks": ["spawn", "forkserver"]},
    )


def network_in(found: Trace) -> Network | None:
    """Return the network or tensor that the classic lesson is about."""
    on_gpu = [member for member in [*found.modules, *found.device] if member.is_on_gpu]
    if on_gpu:
        return Network(on_gpu[0].path, on_gpu[0].device, is_on_gpu=True)
    if found.modules and found.modules[0].bytes:
        return Network(found.modules[0].path, "cuda:0", is_on_gpu=False)
    return None


def _main_guard(target: Target, found: Trace, methods: Sequence[str]) -> Check:
    lines = unguarded_lines(target.file) if target.file else []
    pickles = [method for method in methods if method != "fork"]
    if lines:
        name = Path(target.file).name
        return Check(
            "mp.main_guard",
            "fail" if pickles else "warn",
            f"{name} starts work when it is imported (line {lines[0]})",
            where="\n".join(f"{name}:{line}" for line in lines),
            matters="A spawned worker imports the script again, and would start workers of its own: "
            "'An attempt has been made to start a new process before ...'.",
            fix='Put these lines under `if __name__ == "__main__":`.',
            data={"lines": lines},
        )
    if found.in_main:
        return Check(
            "mp.main_guard",
            "fail" if pickles else "warn",
            f"{found.in_main[0].path} is defined in __main__",
            where=places(found.in_main),
            matters='A worker of a notebook or of a script on stdin fails: "Can\'t get attribute".',
            fix="Move it to a module of its own.",
        )
    return Check("mp.main_guard", "pass", "importing the data set's file starts nothing")


def _cuda_fork(found: Trace, methods: Sequence[str]) -> Check:
    network = network_in(found)
    if "fork" in methods and network is not None and network.is_on_gpu:
        return Check("mp.cuda_fork", "skip", f"{network.path} is told of by ds.cuda_member")
    if "fork" in methods and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return Check(
            "mp.cuda_fork",
            "fail",
            "building the data set puts CUDA in use before workers are forked",
            matters="A forked worker that uses CUDA raises 'Cannot re-initialize CUDA in forked subprocess'.",
            fix="Leave CUDA out of the data set: keep tensors on the CPU, move batches in the training loop.",
        )
    return Check("mp.cuda_fork", "pass", "no worker inherits CUDA")


def _threads_of_user() -> list[str]:
    """Return the names of the threads that run a function of the user's."""
    found = []
    for thread in threading.enumerate():
        code = getattr(getattr(thread, "_target", None), "__code__", None)
        if code is not None and is_users(code.co_filename):
            found.append(thread.name)
    return found


def _live_threads(before: int, methods: Sequence[str]) -> Check:
    extra = max(0, num_threads() - before)
    data = {"threads": extra, "users": _threads_of_user()}
    if extra and "fork" in methods:
        return Check(
            "mp.threads",
            "warn",
            f"building the data set started {count_text(extra, 'thread')}, alive when workers are forked",
            matters="A lock that such a thread holds at the fork stays locked in the worker: a silent hang.",
            fix='Start threads at first use in the worker, or pass multiprocessing_context="forkserver".',
            data=data,
        )
    return Check("mp.threads", "pass", "no thread is alive before workers start", data=data)
