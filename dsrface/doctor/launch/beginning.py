"""Inside a launched process: what it was when a loop began, before any item was loaded in it.

Workers that a training starts at once find nothing open, and no library in use. By the time a loader is
examined this process has loaded items: the loop has, where num_workers is 0, and so has the doctor. Members
are put back then. What a library keeps (polars and numba have threads, which a forked worker would wait for
in vain) cannot be put back: so workers are forked from a copy of the process, made when the loop began.
Syntax of Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
import warnings
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from dsrface.doctor.reporter import Reporter
from dsrface.runtime.start_methods import forget_forkserver


class Beginning:
    """A loader's process when its loop began.

    Args:
        loader: Whose loop begins.
    """

    def __init__(self, loader: Any) -> None:
        from dsrface.doctor.trace.snapshot import Snapshot

        self._snapshot = Snapshot({"dataset": loader.dataset, "collate_fn": loader.collate_fn})
        self._copy = Copy(loader) if _can_copy() else None

    @property
    def has_copy(self) -> bool:
        """Whether a copy of the process waits."""
        return self._copy is not None

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Give the members of the data set back what they were, for a while; the copy is gone afterwards."""
        try:
            with self._snapshot.in_force():
                yield
        finally:
            if self._copy is not None:
                self._copy.close()

    def run(self, request: Mapping[str, Any], report: Reporter, *, is_busy: bool) -> bool:
        """Run a stage in the copy of the process, where it starts workers by fork; return whether it did.

        Args:
            request: Of the stage.
            report: Takes what it says.
            is_busy: This process still loads a batch: every stage runs in the copy.
        """
        starts_by_fork = request.get("method") == "fork" and request["stage"] != "survey"
        if self._copy is None or not (starts_by_fork or is_busy):
            return False
        self._copy.run(request, report)
        return True


def _can_copy() -> bool:
    """Return whether a copy can stand for this process; CUDA that is in use here does not work in one."""
    import torch

    return sys.platform == "linux" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


class Copy:
    """A forked copy of this process that waits to be asked, and runs each stage in a fork of its own.

    Args:
        loader: To examine there.
    """

    def __init__(self, loader: Any) -> None:
        requests, self._requests = os.pipe()
        self._events, events = os.pipe()
        with warnings.catch_warnings():  # Python warns of other threads from 3.12 on
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(self._requests)
            os.close(self._events)
            _wait(loader, requests, events)
        os.close(requests)
        os.close(events)
        self.close = weakref.finalize(self, _close, self._requests, self._events, pid)

    def run(self, request: Mapping[str, Any], report: Reporter) -> None:
        """Have a stage run, and pass on what it reports."""
        os.write(self._requests, (json.dumps(request) + "\n").encode())
        with os.fdopen(os.dup(self._events), encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                if event["event"] == "done":
                    return
                report(**event)
        report.crash(EOFError("the copy of the process is gone"))


def _close(requests: int, events: int, pid: int) -> None:
    os.close(requests)
    os.close(events)
    with contextlib.suppress(OSError):
        os.waitpid(pid, 0)


def _wait(loader: Any, requests: int, events: int) -> NoReturn:
    """Serve requests until the process that was copied is gone; nothing of it is tidied up here."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # its own handlers may save what it has
            signal.signal(number, signal.SIG_DFL)
        with os.fdopen(requests, encoding="utf-8") as lines:
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    _run(loader, json.loads(line), events)
                status = os.waitpid(pid, 0)[1]
                with os.fdopen(os.dup(events), "w", encoding="utf-8") as out:
                    report = Reporter(out)
                    if status:
                        report.crash(ChildProcessError(f"it was ended by {_ending(status)}"))
                    report("done")
    finally:
        os._exit(0)


def _run(loader: Any, request: Mapping[str, Any], events: int) -> NoReturn:
    try:
        import torch

        from dsrface.doctor import stages
        from dsrface.doctor.launch.service import target_of

        torch.set_num_threads(1)  # as in a worker: the threads of OpenMP are gone
        forget_forkserver()
        with os.fdopen(events, "w", encoding="utf-8") as out:
            report = Reporter(out)
            try:
                target = target_of(loader)
                target.is_copy = True
                stages.run(request, report, target)
            except BaseException as error:  # noqa: BLE001 - reported; the doctor decides
                traceback.print_exc()
                report.crash(error)
    finally:
        os._exit(0)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"
