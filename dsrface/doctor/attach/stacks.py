"""Python stacks of another process, by py-spy, which needs no help from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dsrface.runtime.user_code import is_users, short_path

_LIMIT_S = 2.0
_TRIES = 3
_DATALOADER = "torch/utils/data/dataloader.py"
_WORKER = "torch/utils/data/_utils/worker.py"


@dataclass(frozen=True)
class Frame:
    """One call on a stack.

    Args:
        function: Its name, with its class where Python tells.
        file: Source file.
        line: Where it stands.
        values: Names of local variables and arguments -> their values as text.
    """

    function: str
    file: str
    line: int
    values: Mapping[str, str]

    @property
    def place(self) -> str:
        """`file:line in function`."""
        return f"{short_path(self.file)}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Stack:
    """The main thread's calls, the innermost first, and the names of the other threads."""

    frames: tuple[Frame, ...]
    threads: tuple[str, ...]

    def find(self, function: str, file: str) -> Frame | None:
        """Return the innermost frame of a function in a file, both by their ends."""
        return next((f for f in self.frames if f.function.endswith(function) and f.file.endswith(file)), None)

    @property
    def worker_loop(self) -> Frame | None:
        """The frame of torch's worker loop: the process is a worker of a DataLoader."""
        return self.find("_worker_loop", _WORKER)

    @property
    def waits_for_batch(self) -> bool:
        """Whether the process waits for its workers."""
        return self.find("_get_data", _DATALOADER) is not None

    @property
    def users(self) -> Frame | None:
        """The innermost frame in the user's own files, else the innermost outside of Python and torch."""
        loop = self.worker_loop
        inner = self.frames[: self.frames.index(loop)] if loop is not None else self.frames
        return next((frame for frame in inner if is_users(frame.file)), inner[0] if inner else None)


def can_see_stacks() -> bool:
    """Return whether py-spy is installed."""
    return _py_spy() is not None


def read_stack(pid: int) -> Stack | None:
    """Return the stack of a process; None when it is no Python, is gone, or may not be looked into."""
    program = _py_spy()
    if program is None:
        return None
    # Pausing a process would end some of the calls it is blocked in: a write to a full pipe returns early.
    command = [program, "dump", "--nonblocking", "--pid", str(pid), "--json", "--locals"]
    threads = None
    for _ in range(_TRIES):  # what runs on may change its frames while they are read
        try:
            done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
            threads = json.loads(done.stdout)
            break
        except (OSError, ValueError, subprocess.TimeoutExpired):
            continue
    if threads is None:
        return None
    main = next((t for t in threads if t["thread_name"] == "MainThread"), threads[-1] if threads else None)
    if main is None:
        return None
    frames = tuple(
        Frame(
            frame["name"],
            frame["filename"].replace("\\", "/"),
            frame["line"],
            {local["name"]: local["repr"] or "" for local in frame["locals"] or ()},
        )
        for frame in main["frames"]
    )
    return Stack(frames, tuple(thread["thread_name"] or "" for thread in threads if thread is not main))


def _py_spy() -> str | None:
    sibling = Path(sys.executable).with_name("py-spy")
    return str(sibling) if sibling.is_file() else shutil.which("py-spy")
