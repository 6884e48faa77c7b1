"""Examine what somebody holds in Python: a DataLoader, a data set, a data module, a trainer."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor import examination, stages, targets
from dsrface.doctor.process import probe
from dsrface.doctor.process.probe import Limits, OnEvent, Outcome
from dsrface.doctor.proof.seeding import preserved
from dsrface.doctor.report import Report
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.targets import Target
from dsrface.runtime.start_methods import forget_forkserver

_LEAVE_S = 2.0


def examine_object(value: Any, settings: Mapping[str, Any]) -> Report:
    """Examine a loader, or what one can be made of.

    Args:
        value: See `api.examine`.
        settings: Keys of the doctor's configuration.

    Raises:
        UsageError: it is nothing of that kind.
    """
    target = targets.from_object(value)
    label = (
        f"{type(value).__name__}({type(target.dataset).__name__})" if target.loader else type(value).__name__
    )
    return examination.examine(
        DoctorConfig(allow_cuda=True, **settings),
        target={"label": label},
        emit=lambda _: None,
        run_stage=partial(_stage, target),
    )


def _stage(
    target: Target, request: Mapping[str, Any], limits: Limits, on_event: OnEvent | None = None
) -> Outcome:
    """Run a stage on an object of this process: in a fork of it, so that a hang or a crash does no harm.

    Where there is no fork, or it could not use CUDA as this process does, it runs right here, without time
    limits. What other threads hold at the fork stays held there, as in a forked worker.
    """
    start, outcome = time.monotonic(), Outcome()
    request = {"import_s": 0.0, **request}
    if sys.platform == "linux" and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        _in_a_fork(partial(_run, target, request), outcome, limits, on_event)
    else:
        with preserved(target.loader):
            _right_here(partial(_run, target, request), outcome, on_event)
    outcome.duration_s = time.monotonic() - start
    return outcome


def _run(target: Target, request: Mapping[str, Any], report: Reporter) -> None:
    try:
        stages.run(request, report, target)
    except Exception as error:  # noqa: BLE001 - the examination decides
        report.crash(error)
    report("done")


def _right_here(run: Callable[[Reporter], None], outcome: Outcome, on_event: OnEvent | None) -> None:
    out = io.StringIO()
    run(Reporter(out))
    for line in out.getvalue().splitlines():
        event = json.loads(line)
        outcome.events.append(event)
        if on_event is not None:
            on_event(event)
    _settle(outcome)


def _in_a_fork(
    run: Callable[[Reporter], None], outcome: Outcome, limits: Limits, on_event: OnEvent | None
) -> None:
    """Run in a grandchild with a process group of its own, which is gone afterwards."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile("a+b") as log:
        with warnings.catch_warnings():  # Python warns of other threads from 3.12 on
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _child(run, reading, writing, log.fileno())
        os.close(writing)
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=_read, args=(reading, events), daemon=True).start()
        try:
            probe.hear(_Group(pid), events, log, outcome, limits, on_event, until="done")
        finally:
            _end(pid)
        outcome.log = probe.tail(log)[-probe.LOG_TAIL_BYTES :]
    if outcome.ending not in ("timeout", "memory"):
        _settle(outcome)


def _child(run: Callable[[Reporter], None], reading: int, writing: int, log: int) -> None:
    os.setsid()
    os.close(reading)
    if os.fork() == 0:
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)  # as in a worker: the threads of OpenMP are gone
        forget_forkserver()
        with contextlib.suppress(BaseException), os.fdopen(writing, "w", encoding="utf-8") as out:
            report = Reporter(out)
            try:
                run(report)
            except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt: it is no key press here
                report.crash(error)
                report("done")
        os._exit(0)
    os.close(writing)
    with contextlib.suppress(OSError):
        os.wait()
    os._exit(0)


class _Group:
    """A process group in the place of a guardian: it can be watched, and takes no requests."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stdin = io.BytesIO()


def _read(descriptor: int, events: queue.Queue[dict[str, Any] | None]) -> None:
    with contextlib.suppress(OSError, ValueError), os.fdopen(descriptor, encoding="utf-8") as lines:
        for line in lines:
            events.put(json.loads(line))
    events.put(None)


def _settle(outcome: Outcome) -> None:
    is_done = outcome.last("done") is not None and outcome.last("crash") is None
    outcome.ending = "done" if is_done else "died"


def _end(pid: int) -> None:
    """End the group: a moment for those that are about to go, then by force."""
    deadline = time.monotonic() + _LEAVE_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
