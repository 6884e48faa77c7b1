"""Whether workers can start after the data set was built: scripts, CUDA, threads, finalizers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.checks.members import places
from dsrface.doctor.main_guard import unguarded_lines
from dsrface.doctor.report import Finding
from dsrface.doctor.survey.facts import Network
from dsrface.doctor.targets import Target
from dsrface.runtime.text import count_text
from dsrface.runtime.user_code import is_users

if TYPE_CHECKING:
    from dsrface.doctor.survey.subject import Subject
    from dsrface.doctor.trace.members import Trace


def _finalizers(subject: Subject) -> Finding:
    having, removing = subject.finalizers, subject.removing
    copies = subject.pickles
    if not removing:
        text = f"{having[0]} removes no files" if having else "no member acts when it is destroyed"
        return FINALIZER.finding("pass", text)
    return FINALIZER.finding(
        "fail" if copies else "info",
        f"{removing[0].partition(' ')[0]} removes files when the object is destroyed",
        where="\n".join(removing),
        matters="A worker that is not forked has a copy of the data set, which is destroyed when the "
        "worker ends: after the first epoch the files are gone. No worker was started so, to keep them.",
        fix="Act only in the process that made the files: remember os.getpid() in __init__, compare in "
        "__del__; or clean up in the main program, e.g. with tempfile.TemporaryDirectory.",
        data={"members": list(removing), "blocks": ["spawn", "forkserver"]},
    )


def network_in(found: Trace) -> Network | None:
    """Return the network or tensor that the classic lesson is about."""
    on_gpu = [member for member in [*found.modules, *found.device] if member.is_on_gpu]
    if on_gpu:
        return Network(on_gpu[0].path, on_gpu[0].device, is_on_gpu=True)
    if found.networks and found.mentions_device:
        return Network(found.networks[0].path, "cuda:0", is_on_gpu=False)
    return None


def _main_guard(target: Target, found: Trace, methods: Sequence[str]) -> Finding:
    lines = unguarded_lines(target.file) if target.file else []
    pickles = [method for method in methods if method != "fork"]
    if lines:
        name = Path(target.file).name
        return MAIN_GUARD.finding(
            "fail" if pickles else "warn",
            f"{name} starts work when it is imported (line {lines[0]})",
            where="\n".join(f"{name}:{line}" for line in lines),
            matters="A spawned worker imports the script again, and would start workers of its own: "
            "'An attempt has been made to start a new process before ...'.",
            fix='Put these lines under `if __name__ == "__main__":`.',
            data={"lines": lines},
        )
    if found.in_main and not (target.is_running and target.file):  # workers import a script's classes again
        return MAIN_GUARD.finding(
            "fail" if pickles else "warn",
            f"{found.in_main[0].path} is defined in __main__",
            where=places(found.in_main),
            matters='A worker of a notebook or of a script on stdin fails: "Can\'t get attribute".',
            fix="Move it to a module of its own.",
        )
    return MAIN_GUARD.finding("pass", "importing the data set's file starts nothing")


def _cuda_fork(target: Target, found: Trace, methods: Sequence[str]) -> Finding:
    import torch

    network = network_in(found)
    if "fork" in methods and network is not None and network.is_on_gpu:
        return CUDA_FORK.finding("skip", f"{network.path} is reported by ds.cuda_member")
    # A script that trains has its network there; what counts is whether items load in a forked worker.
    is_bare = "fork" in methods and not target.is_running
    if is_bare and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return CUDA_FORK.finding(
            "fail",
            "building the data set puts CUDA in use before workers are forked",
            matters="A forked worker that uses CUDA raises 'Cannot re-initialize CUDA in forked subprocess'.",
            fix="Leave CUDA out of the data set: keep tensors on the CPU, move batches in the training loop.",
        )
    return CUDA_FORK.finding("pass", "no worker inherits CUDA")


def _threads_of_user() -> list[str]:
    """Return the names of the threads that run a function of the user's."""
    found = []
    for thread in threading.enumerate():
        code = getattr(getattr(thread, "_target", None), "__code__", None)
        if code is not None and is_users(code.co_filename):
            found.append(thread.name)
    return found


def _live_threads(before: set[int], methods: Sequence[str]) -> Finding:
    from dsrface.doctor.survey.observe import thread_ids

    extra = len(thread_ids() - before)  # others may have ended meanwhile
    data = {"threads": extra, "users": _threads_of_user()}
    if extra and "fork" in methods:
        return LIVE_THREADS.finding(
            "warn",
            f"building the data set started {count_text(extra, 'thread')}, alive when workers are forked",
            matters="A lock that such a thread holds at the fork stays locked in the worker: a silent hang.",
            fix='Start threads at first use in the worker, or pass multiprocessing_context="forkserver".',
            data=data,
        )
    return LIVE_THREADS.finding("pass", "no thread is alive before workers start", data=data)


MAIN_GUARD = Check(
    id="mp.main_guard",
    order=20,
    worst="fail",
    title="scripts that start work when they are imported",
    why=(
        "A spawned worker imports the script again and would start workers of its own; classes "
        "defined in a notebook cannot be imported at all."
    ),
    how=(
        "The script's top level (the line that a launch is running, loops over a DataLoader, calls of "
        "main() or train()), and members that belong to __main__."
    ),
    fix='Put what runs under `if __name__ == "__main__":`; move classes into a module.',
    errors=(
        (
            "RuntimeError: An attempt has been made to start a new process before the current "
            "process has finished its bootstrapping phase."
        ),
        "AttributeError: Can't get attribute 'MyDataset' on <module '__main__' (built-in)>",
    ),
    runs={"members": lambda _, subject: _main_guard(subject.target, subject.trace, subject.methods)},
)

CUDA_FORK = Check(
    id="mp.cuda_fork",
    order=40,
    worst="fail",
    title="CUDA in use before workers are forked",
    why=(
        "A forked process inherits a CUDA state that it cannot use. Calling .cuda() in __getitem__ "
        "fails the same way, and 'use spawn' only moves the trouble."
    ),
    how=(
        "torch.cuda.is_initialized() after the data set is built; tensors on a GPU among its members "
        "are reported by ds.cuda_member."
    ),
    fix="Tensors stay on the CPU in the data set; batches are moved in the training loop.",
    errors=(
        (
            "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with "
            "multiprocessing, you must use the 'spawn' start method"
        ),
    ),
    runs={"members": lambda _, subject: _cuda_fork(subject.target, subject.trace, subject.methods)},
)

LIVE_THREADS = Check(
    id="mp.threads",
    order=50,
    worst="warn",
    title="threads alive before the fork",
    why="A lock that another thread holds at the fork stays locked in the worker for ever.",
    how="Threads of the process before and after the data set is built.",
    fix="Start threads at first use in the worker, or use forkserver.",
    errors=(
        (
            "DeprecationWarning: This process is multi-threaded, use of fork() may lead to deadlocks "
            "in the child."
        ),
    ),
    runs={"members": lambda _, subject: _live_threads(subject.threads_before, subject.methods)},
)

FINALIZER = Check(
    id="ds.finalizer",
    order=140,
    worst="fail",
    title="members that remove files when they are destroyed",
    why=(
        "A worker that is not forked unpickles a copy of the data set, and destroys it when it ends: "
        "a __del__ that removes a cache removes everybody's."
    ),
    how=(
        "The code of __del__ of the data set's and its members' classes; and this process reads "
        "items again after the workers have ended."
    ),
    fix="Compare os.getpid() with that of __init__ before removing anything.",
    runs={"members": lambda _, subject: _finalizers(subject)},
)
