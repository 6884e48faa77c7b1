"""What a process is doing, in words: from the call it is blocked in and the line it stands at."""

from __future__ import annotations

from dataclasses import dataclass

from dsrface.doctor.attach.look import Seen

_NETWORK = {"recvfrom", "recvmsg", "sendto", "sendmsg", "connect", "accept"}
_WAITS = {"futex", "futex_do_wait", "futex_wait_queue", "futex_wait_queue_me"}


@dataclass(frozen=True)
class Doing:
    """What a process does.

    Args:
        kind: One word: `dead`, `idle`, `computing`, `stopped`, `lock`, `pool`, `threads`, `network`, `pipe`,
            `disk`, `sleep`, `child` or `blocked`.
        text: In words.
        fix: What to do when it does not end; may be empty.
    """

    kind: str
    text: str
    fix: str = ""


def doing(seen: Seen) -> Doing:
    """Return what a process does; from less, when there is no stack."""
    if seen.is_dead:
        return Doing("dead", "dead", "The run's log, or the system's (dmesg), says why it was killed.")
    stack = seen.stack
    if seen.state == "stopped":
        return Doing("stopped", "stopped by a signal", f"kill -CONT {seen.pid} lets it go on.")
    if stack is not None and stack.worker_loop is not None and _is_idle(seen):
        return Doing("idle", "idle, waits for work")
    if seen.is_busy:
        return Doing("computing", f"computing ({100 * seen.busy:.0f} % of a core)")
    call = seen.call.name if seen.call is not None else ""
    if call in _WAITS:
        return _waiting(seen)
    if seen.state == "disk-sleep":
        return Doing("disk", "waits for a disk", "See how the storage is doing: iostat, nfsstat.")
    target = seen.call.target if seen.call is not None else ""
    if call in _NETWORK or target.startswith("socket:"):
        return Doing("network", f"blocked in {seen.call}", "Give the connection a timeout, and retry.")
    if call in ("poll", "select", "ppoll", "pselect", "epoll_wait"):
        return Doing("blocked", f"waits in {call} for a file or socket to become ready", "Give it a timeout.")
    if target.startswith("pipe:"):
        if call == "write":
            return Doing("pipe", "blocked in write on a pipe that is not read", "Read the other end.")
        return Doing(
            "pipe",
            "blocked in read on a pipe that is not written to",
            "See that the other end is written to, or closed; Queue.get(timeout=...) does not wait for ever.",
        )
    if call in ("flock", "fcntl"):
        return Doing("lock", f"waits for a file lock, {target or 'of an unknown file'}", "See who holds it.")
    if call in ("nanosleep", "clock_nanosleep", "pause"):
        return Doing("sleep", "sleeps")
    if call in ("wait4", "waitid"):
        return Doing("child", "waits for a process it started", "Give that process a timeout.")
    if seen.call is not None:
        return Doing("blocked", f"blocked in {seen.call}")
    return Doing("computing", f"runs, {100 * seen.busy:.0f} % of a core")


def _is_idle(seen: Seen) -> bool:
    """A worker that has no batch to load stands in the queue's get, called by the loop itself."""
    assert seen.stack is not None
    loop = seen.stack.worker_loop
    inner = seen.stack.frames[: seen.stack.frames.index(loop)] if loop is not None else ()
    return bool(inner) and inner[-1].function.rpartition(".")[2] == "get"


def _waiting(seen: Seen) -> Doing:
    """A futex is a lock, a condition, or a thread of a library; the stack tells them apart."""
    stack = seen.stack
    inner = stack.frames[0] if stack is not None and stack.frames else None
    if stack is None or inner is None:
        return Doing("lock", "waits for a lock or another thread", "pip install py-spy shows where.")
    if stack.worker_loop is None:  # the training process: no fork has copied its locks
        return Doing("lock", "waits for a lock, a queue or another thread")
    if stack.find("result", "concurrent/futures/_base.py") or stack.find("get", "multiprocessing/pool.py"):
        return Doing(
            "pool",
            "waits for a pool whose threads do not exist in this process: a fork copies none",
            'Make the pool at first use in the worker, or set multiprocessing_context="forkserver".',
        )
    if _is_lock(inner.file, inner.line) or inner.file.endswith(("threading.py", "synchronize.py")):
        return Doing(
            "lock",
            "waits for a lock or a signal that never comes (a fork copies locks as they are, held ones too)",
            'Make it at first use in the worker, or set multiprocessing_context="forkserver".',
        )
    return Doing(
        "threads",
        "waits inside a library for threads of its own: a fork copies none",
        "cv2.setNumThreads(0) and torch.set_num_threads(1) in worker_init_fn, OMP_NUM_THREADS=1, or "
        'multiprocessing_context="forkserver".',
    )


def _is_lock(file: str, line: int) -> bool:
    """Return whether a source line takes a lock."""
    import linecache

    text = linecache.getline(file, line).strip().lower()
    return text.startswith("with ") or ".acquire(" in text or ".wait(" in text or ".join(" in text
