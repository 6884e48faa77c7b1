"""A launched command under guard, and the lines to its processes.

The guardian owns the command's process group. Each process that iterates over a DataLoader connects to a port
of this machine, shows the token that it got in its environment, and waits for requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from dsrface.doctor.process import probe
from dsrface.doctor.process.probe import Limits, OnEvent, Outcome

_POLL_S = 0.2
_GRACE_S = 10.0  # for `finally` and atexit of the command
_RANKS_GRACE_S = 1.0  # for the other ranks, which may wait for the first one


@dataclass
class Line:
    """The line to one process of the command.

    Args:
        connection: Its socket.
        rank: Among the processes that train together.
        events: What it reports while it does what it was asked.
        is_closed: The process is gone.
    """

    connection: socket.socket
    rank: int = 0
    events: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)
    is_closed: bool = False

    def send(self, **request: Any) -> None:
        """Ask for something; a process that is gone does not hear it."""
        with contextlib.suppress(OSError):
            self.connection.sendall((json.dumps(request) + "\n").encode())


@dataclass(frozen=True)
class SeenLoader:
    """A DataLoader that a process is about to iterate on, and waits to have examined.

    Args:
        line: To its process.
        facts: Where it was made, its settings, its step times; see `service`.
    """

    line: Line
    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The loader in one phrase: `train.py:42: DataLoader(Records)`."""
        return f"{self.facts['made_at']}: {self.facts['loader_class']}({self.facts['dataset_class']})"


class Session:
    """The command while it runs; made by `launched`."""

    def __init__(self, guardian: Any, server: socket.socket, log: IO[bytes], token: str) -> None:
        self.code: int | None = None
        self.has_ended = False
        self.was_cut_off = False  # by us, in the middle of its examination
        self._guardian = guardian
        self._log = log
        self._shown_bytes = 0
        self._token = token
        self._lines: list[Line] = []
        self._seen: queue.Queue[SeenLoader | None] = queue.Queue()
        for target, argument in ((self._accept, server), (self._hear_guardian, guardian)):
            threading.Thread(target=target, args=(argument,), daemon=True).start()

    def next_loader(self, *, is_over: Callable[[], bool] = lambda: False) -> SeenLoader | None:
        """Wait for a loader that is to be examined; None when the command has ended.

        Of processes that train together only the first is examined, the others wait.

        Args:
            is_over: Asked now and then; when it says so the wait ends, with None.
        """
        while not is_over():
            with contextlib.suppress(queue.Empty):
                seen = self._seen.get(timeout=_POLL_S)
                if seen is None:
                    return None
                if seen.line.rank == 0:
                    return seen
        return None

    def stage(
        self,
        seen: SeenLoader,
        request: Mapping[str, Any],
        limits: Limits,
        on_event: OnEvent | None = None,
    ) -> Outcome:
        """Run a stage of the examination in the process of a loader.

        Args:
            seen: The loader.
            request: What the process shall do.
            limits: What it may take; memory counts from what the command has now.
            on_event: As of `probe.RunStage`.
        """
        start = time.monotonic()
        if self.has_ended:
            return Outcome(ending="no time")
        begin = self._log.seek(0, os.SEEK_END)
        if limits.memory_bytes is not None:
            has_now = probe.tree_bytes(self._guardian.pid)
            limits = replace(limits, memory_bytes=limits.memory_bytes + has_now)
        outcome = Outcome()
        seen.line.send(**request)
        probe.hear(self._guardian, seen.line.events, self._log, outcome, limits, on_event, until="done")
        if outcome.last("done") is not None:
            outcome.ending = "died" if outcome.last("crash") else "done"
        else:  # what hangs or takes all memory cannot be asked again
            self.has_ended = self.was_cut_off = True
            probe.close(self._guardian)
        self._log.seek(begin)
        outcome.log = self._log.read().decode("utf-8", "replace")[-probe.LOG_TAIL_BYTES :]
        outcome.duration_s = time.monotonic() - start
        return outcome

    def go_on(self) -> None:
        """Let every process that waits go on."""
        for line in self._lines:
            line.send(stage="end", stop=False)

    def stop(self) -> None:
        """End the command: by an exception in its own processes first, so that they can tidy up."""
        for line in self._lines:
            line.send(stage="end", stop=True)
        deadline = time.monotonic() + _GRACE_S
        while not self.has_ended and time.monotonic() < deadline:
            if all(line.is_closed for line in self._lines if line.rank == 0):
                deadline = min(deadline, time.monotonic() + _RANKS_GRACE_S)
            time.sleep(0.05)

    def new_lines(self) -> list[str]:
        """Return the lines that the command has printed since this was asked last."""
        self._log.seek(self._shown_bytes)
        text = self._log.read()
        if not self.has_ended:
            text = text[: text.rfind(b"\n") + 1]
        self._shown_bytes += len(text)
        return text.decode("utf-8", "replace").splitlines()

    def output(self) -> str:
        """Return the end of what the command has printed."""
        return probe.tail(self._log)

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                connection, _ = server.accept()
                threading.Thread(target=self._hear, args=(Line(connection),), daemon=True).start()

    def _hear(self, line: Line) -> None:
        is_known = False
        with (
            contextlib.suppress(OSError, ValueError),
            line.connection.makefile("r", encoding="utf-8") as lines,
        ):
            for text in lines:
                event = json.loads(text)
                if event["event"] == "hello":
                    is_known = secrets.compare_digest(str(event["token"]), self._token)
                    line.rank = int(event["rank"])
                    if is_known:
                        self._lines.append(line)
                elif not is_known:
                    break
                elif event["event"] == "loader":
                    self._seen.put(SeenLoader(line, event))
                else:
                    line.events.put(event)
        line.is_closed = True
        line.connection.close()

    def _hear_guardian(self, guardian: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            for text in guardian.stdout:
                event = json.loads(text)
                if event.get("event") == "ended":
                    self.code = event["code"]
                    break
        self.has_ended = True
        self._seen.put(None)
        for line in self._lines:
            line.events.put(None)


@contextlib.contextmanager
def launched(
    command: Sequence[str], *, loaders: int = 1, steps: int = 1, trial: Mapping[str, Any] | None = None
) -> Iterator[Session]:
    """Start a command under guard; at the end nothing of it is left.

    Args:
        command: Program and arguments.
        loaders: How many of its loaders are to be examined.
        steps: Training steps to measure first.
        trial: What a run of a proof is for, see `trial.Trial`; None to have loaders examined.
    """
    token = secrets.token_hex(16)
    with tempfile.TemporaryFile("a+b") as log, socket.create_server(("127.0.0.1", 0)) as server:
        settings = {
            "port": server.getsockname()[1],
            "token": token,
            "loaders": loaders,
            "steps": steps,
            "trial": trial,
        }
        environ = probe.hooked(settings)
        if trial is not None:
            environ["PYTHONHASHSEED"] = os.environ.get("PYTHONHASHSEED", "0")  # the order of sets
        request = {"command": list(command), "environ": environ}
        with probe.guarded(request, f"dsrface-{token[:8]}", log, is_own=False) as guardian:
            yield Session(guardian, server, log, token)
