"""Look at a process and all below it, twice within a second: what each does, and what it uses."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psutil

from dsrface.doctor.attach.kernel import SystemCall, open_files_limit, system_call
from dsrface.doctor.attach.stacks import Stack, can_see_stacks, read_stack

_INTERVAL_S = 0.6
_BUSY_SHARE = 0.2
_HELPERS = (
    "multiprocessing.resource_tracker",
    "multiprocessing.forkserver",
    "from multiprocessing.resource_tracker",
)


@dataclass
class Seen:
    """One process.

    Args:
        pid: Its id.
        parent: That of its parent.
        state: The system's word: running, sleeping, disk-sleep, stopped, zombie.
        busy: Share of a core that it used while it was watched.
        memory_bytes: Resident memory.
        growth_bytes_s: By how much that grew a second.
        open_files: How many it has; None where that cannot be seen.
        open_files_limit: How many it may have.
        call: The system call it is blocked in.
        stack: Its Python stack; None without py-spy.
        is_helper: One of multiprocessing's own processes.
        children: Ids of the processes that it started.
    """

    pid: int
    parent: int
    state: str
    busy: float
    memory_bytes: int
    growth_bytes_s: float
    open_files: int | None = None
    open_files_limit: int | None = None
    call: SystemCall | None = None
    stack: Stack | None = None
    is_helper: bool = False
    children: list[int] = field(default_factory=list)

    @property
    def is_dead(self) -> bool:
        """Whether it has ended and was not waited for."""
        return self.state == psutil.STATUS_ZOMBIE

    @property
    def is_busy(self) -> bool:
        """Whether it computes."""
        return self.busy > _BUSY_SHARE


def look(pid: int) -> dict[int, Seen]:
    """Return a process and all its descendants by id.

    Raises:
        psutil.Error: there is no such process.
    """
    root = psutil.Process(pid)
    processes = [root, *root.children(recursive=True)]
    before = {process.pid: _usage(process) for process in processes}
    start = time.monotonic()
    stacks: list[Stack | None] = [None] * len(processes)
    if can_see_stacks():
        with ThreadPoolExecutor(8) as pool:  # py-spy is a process of its own each time
            stacks = list(pool.map(lambda process: read_stack(process.pid), processes))
    time.sleep(max(0.0, _INTERVAL_S - (time.monotonic() - start)))
    seconds = time.monotonic() - start
    found: dict[int, Seen] = {}
    for number, process in enumerate(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            found[process.pid] = _seen(process, before[process.pid], seconds, stacks[number])
    for seen in found.values():
        if seen.parent in found:
            found[seen.parent].children.append(seen.pid)
    return found


def _usage(process: psutil.Process) -> tuple[float, int]:
    try:
        with process.oneshot():
            times = process.cpu_times()
            return times.user + times.system, process.memory_info().rss
    except psutil.Error:
        return 0.0, 0


def _seen(process: psutil.Process, before: tuple[float, int], seconds: float, stack: Stack | None) -> Seen:
    cpu, memory = _usage(process)
    state: str = process.status()
    seen = Seen(
        process.pid,
        process.ppid(),
        state,
        max(0.0, cpu - before[0]) / seconds,
        memory,
        (memory - before[1]) / seconds if before[1] else 0.0,
        stack=stack,
    )
    if seen.is_dead:
        return seen
    seen.call = system_call(process.pid)
    seen.open_files_limit = open_files_limit(process.pid)
    with contextlib.suppress(psutil.Error, AttributeError):
        seen.open_files = _num_files(process)
        line = " ".join(process.cmdline())  # workers of a fork server have that server's
        is_worker = stack is not None and stack.worker_loop is not None
        seen.is_helper = not is_worker and any(name in line for name in _HELPERS)
    return seen


def _num_files(process: Any) -> int:
    return int(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())
