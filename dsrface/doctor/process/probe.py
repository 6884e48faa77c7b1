"""Run one stage of the examination in a guarded process and hear what it reports.

The process has a session of its own, no terminal, a time limit and a memory limit. What the user's code
prints goes to a log that never touches our standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import dsrface

_HOOK = Path(__file__).parents[1] / "launch" / "hook"
_POLL_S = 0.1
_MEMORY_POLL_S = 0.25
LOG_TAIL_BYTES = 16_000
_STACKS_S = 3.0
_END_S = 8.0
_LOOK_S = 0.7
_SILENCE_S = 2.5  # without a sign of life when the time is up: hung, not slow
_A_SIGN_S = 0.05  # processor seconds within the silence that show that work goes on


@dataclass
class Outcome:
    """How a stage ended.

    Args:
        events: What the child reported, in order.
        ending: `done`, `timeout`, `memory`, `died`.
        code: Exit code of the child, negative for a signal; None when it was killed by us.
        stage: The last step the child said it began.
        log: The end of what it wrote to stdout and stderr.
        is_silent: It was ended because it gave no sign of life; otherwise its time was up.
        stacks: Where each process stood when the time was up.
        duration_s: Seconds from start to end.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    ending: str = "died"
    code: int | None = None
    stage: str = ""
    log: str = ""
    is_silent: bool = False
    stacks: str = ""
    duration_s: float = 0.0

    def last(self, event: str) -> dict[str, Any] | None:
        """Return the last event of a kind."""
        return next((entry for entry in reversed(self.events) if entry.get("event") == event), None)

    def death(self) -> str:
        """Return how the child ended, in words."""
        if self.ending == "memory":
            return "was stopped before it took all memory"
        if self.ending == "timeout":
            return "did not finish in time"
        crash = self.last("crash")
        if crash is not None:  # its exit code is the doctor's own
            return f"was ended by {crash['error'].removesuffix(': ')}"
        if self.code is None:  # the process that watches it ended too
            return "ended without saying how"
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-self.code).name}"
        return f"ended with exit code {self.code}"


@dataclass(frozen=True)
class Limits:
    """What a stage may take.

    Args:
        timeout_s: The processes are killed then, after they wrote their stacks.
        silence_s: By step, the longest time without an event, a line from a worker, or processor time used;
            the same happens then.
        evidence: Folder in which workers leave their signs of life; None when there are none.
        item_s: What an item takes; slow items give a sign of life as seldom.
        memory_bytes: Sum of the processes' own memory at which they are killed; None for no limit.
        allow_cuda: Let a process that is started for the stage see CUDA devices; hidden otherwise.
    """

    timeout_s: float
    silence_s: Mapping[str, float] = field(default_factory=dict)
    evidence: str | None = None
    memory_bytes: int | None = None
    allow_cuda: bool = False
    item_s: float = 0.0


OnEvent = Callable[[dict[str, Any]], None]


class RunStage(Protocol):
    """Runs a stage where its target is: in a process of its own, or in one that runs already."""

    def __call__(self, request: Mapping[str, Any], limits: Limits, /, on_event: OnEvent | None) -> Outcome:
        """Run a stage.

        Args:
            request: What to do; JSON-able.
            limits: What it may take.
            on_event: Called with each event as it comes, and with `silence` when there was none for a moment.
        """


def run_stage(
    request: Mapping[str, Any],
    limits: Limits,
    on_event: OnEvent | None = None,
    *,
    python: str = sys.executable,
) -> Outcome:
    """Run a stage in a guarded process.

    Args:
        request: As of `RunStage`, like the two that follow.
        limits: What it may take.
        on_event: Called with each event.
        python: Runs the stage; it need not have this package.
    """
    start = time.monotonic()
    outcome = Outcome()
    request = {**request, "python": python}
    if python != sys.executable:
        request["environ"] = hooked({})
    token = f"dsrface-{secrets.token_hex(4)}"
    with (
        tempfile.TemporaryFile("a+b") as log,
        guarded(request, token, log, allow_cuda=limits.allow_cuda) as guardian,
    ):
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=_read_events, args=(guardian, events), daemon=True).start()
        hear(guardian, events, log, outcome, limits, on_event, until="ended")
        close(guardian)
        outcome.log = tail(log)[-LOG_TAIL_BYTES:]
    outcome.duration_s = time.monotonic() - start
    return outcome


def hooked(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment by which any Python finds this package, its workers' too.

    Args:
        settings: Of a launch that is to be watched; see `launch.session`.
    """
    path = os.pathsep.join(filter(None, [str(_HOOK), os.environ.get("PYTHONPATH", "")]))
    package = str(Path(dsrface.__file__).parent)
    return {"PYTHONPATH": path, "DSRFACE_LAUNCH": json.dumps({**settings, "package": package})}


class Processes(Protocol):
    """The root of what is heard: a guardian, or something like one."""

    @property
    def pid(self) -> int:
        """Everything below it counts."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """Takes commands."""


def hear(
    guardian: Processes,
    events: queue.Queue[dict[str, Any] | None],
    log: IO[bytes],
    outcome: Outcome,
    limits: Limits,
    on_event: OnEvent | None,
    *,
    until: str,
) -> None:
    """Take events until one of a kind, or until time, patience or memory is at its end; fills the outcome.

    Args:
        guardian: Of the processes that report.
        events: What they report; None when they are gone.
        log: What they print.
        outcome: Filled.
        limits: What it may take.
        on_event: As of `RunStage`.
        until: The event that ends it.
    """
    start = time.monotonic()
    next_memory = start + _MEMORY_POLL_S
    life = _Life(guardian.pid, limits.evidence)
    while True:
        try:
            event = events.get(timeout=_POLL_S)
        except queue.Empty:
            event = {}
            if on_event is not None:
                on_event({"event": "silence"})
        if event is None:
            return
        if event:
            _take(event, outcome, on_event)
            if event["event"] == until:
                return
            life.heard()
            continue
        now = time.monotonic()
        life.look(now)
        is_late = now - start > limits.timeout_s
        patience_s = limits.silence_s.get(outcome.stage, limits.timeout_s)
        late_s = min(patience_s, _SILENCE_S + 2 * limits.item_s)
        outcome.is_silent = now - life.last > (late_s if is_late else patience_s)
        if is_late or outcome.is_silent:
            outcome.ending = "timeout"
            _ask_for_stacks(guardian, events, outcome, log)
            return
        if limits.memory_bytes is not None and now > next_memory:
            next_memory = now + _MEMORY_POLL_S
            if tree_bytes(guardian.pid) > limits.memory_bytes:
                outcome.ending = "memory"
                return


@contextlib.contextmanager
def guarded(
    request: Mapping[str, Any], token: str, log: IO[bytes], *, allow_cuda: bool = True, is_own: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a request under a guardian, which ends and tidies up everything when this block is left.

    Args:
        request: For the child; `{"command": [...], "environ": {...}}` starts that command instead.
        token: In the names of what the processes share, so that it is found afterwards.
        log: Takes what they print.
        allow_cuda: Let the child see CUDA devices.
        is_own: The child is the doctor's own, whose environment may be arranged.
    """
    environ = dict(os.environ, PYTHONFAULTHANDLER="1", PYTHONUNBUFFERED="1", DSRFACE_DOCTOR_TOKEN=token)
    environ["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # what is printed goes to a log, not to a console
    if is_own:
        environ["DSRFACE_DOCTOR_USER_NVML"] = environ.get("PYTORCH_NVML_BASED_CUDA_CHECK", "0")
        environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if not allow_cuda:
        environ["CUDA_VISIBLE_DEVICES"] = ""
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    guardian = subprocess.Popen(
        [sys.executable, "-P", "-m", "dsrface.doctor.process.guardian", token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environ,
        start_new_session=True,
        creationflags=flags,
    )
    try:
        assert guardian.stdin is not None
        guardian.stdin.write((json.dumps(dict(request)) + "\n").encode())
        guardian.stdin.flush()
        yield guardian
    finally:
        close(guardian)


def close(guardian: subprocess.Popen[bytes]) -> None:
    """Close the pipe, which tells the guardian to end everything, and wait until it has."""
    if guardian.stdin is not None and not guardian.stdin.closed:
        with contextlib.suppress(OSError):
            guardian.stdin.close()
    try:
        guardian.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(guardian.pid, signal.SIGKILL)
        guardian.kill()
        guardian.wait()
    if guardian.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            guardian.stdout.close()


def _read_events(guardian: subprocess.Popen[bytes], events: queue.Queue[dict[str, Any] | None]) -> None:
    assert guardian.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        for line in guardian.stdout:
            with contextlib.suppress(ValueError):
                events.put(json.loads(line))
    events.put(None)


def _take(event: dict[str, Any], outcome: Outcome, on_event: OnEvent | None) -> None:
    if event["event"] == "ended":
        outcome.code = event["code"]
        outcome.ending = "done" if event["code"] == 0 and outcome.last("done") else "died"
        return
    if event["event"] == "stage":
        outcome.stage = event["name"]
    outcome.events.append(event)
    if on_event is not None:
        on_event(event)


def _ask_for_stacks(
    guardian: Processes,
    events: queue.Queue[dict[str, Any] | None],
    outcome: Outcome,
    log: IO[bytes],
) -> None:
    assert guardian.stdin is not None
    before = log.seek(0, os.SEEK_END)
    with contextlib.suppress(OSError):
        guardian.stdin.write(b"stacks\n")
        guardian.stdin.flush()
    deadline = time.monotonic() + _STACKS_S
    while time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            event = events.get(timeout=_POLL_S)
            if event is None or event["event"] == "ended":
                break
    log.seek(before)
    outcome.stacks = log.read(LOG_TAIL_BYTES).decode("utf-8", "replace").strip()


def tail(log: IO[bytes]) -> str:
    """Return the end of what was printed."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - 4 * LOG_TAIL_BYTES))
    return log.read().decode("utf-8", "replace")


class _Life:
    """Signs of life of a process tree: events, lines that workers write, processor time.

    Args:
        pid: The guardian's.
        evidence: Folder in which workers write; None when there are none.
    """

    def __init__(self, pid: int, evidence: str | None) -> None:
        self.last = time.monotonic()
        self._pid = pid
        self._evidence = evidence
        self._seen = (-1.0, -1)
        self._next = 0.0

    def heard(self) -> None:
        """Note an event."""
        self.last = time.monotonic()

    def look(self, now: float) -> None:
        """See, about once a second, whether anything has happened; if so, the silence begins again."""
        if now < self._next:
            return
        self._next = now + _LOOK_S
        seen = (_tree_processor_s(self._pid), self._evidence_bytes())
        if seen[0] - self._seen[0] > _A_SIGN_S or seen[1] != self._seen[1]:
            self.last, self._seen = now, seen

    def _evidence_bytes(self) -> int:
        if self._evidence is None:
            return 0
        total = 0
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._evidence):
                total += entry.stat().st_size
        return total


def _tree_processor_s(pid: int) -> float:
    """Return the processor seconds of all processes below one, those of their ended children included."""
    import psutil

    total = 0.0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
                total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def tree_bytes(pid: int) -> int:
    """Return the own memory (USS) of all processes below one, pages that they share left out."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
    return total
