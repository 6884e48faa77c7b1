"""Stand between the doctor and the process that runs the user's code, so that nothing is left behind.

The guardian leads a session of its own and runs no foreign code, so it always answers. Its standard input is
a pipe that the doctor holds: when the doctor ends, by whatever means, the pipe closes and the guardian kills
every process of the session, lets multiprocessing's resource tracker unlink its semaphores, removes shared
memory files that belonged to those processes, and goes. Started as
`python -P -m dsrface.doctor.process.guardian TOKEN`, it talks in lines: the first one read is the request for
the child, later ones are commands (`stacks`); its last line written tells how the child ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from dsrface.doctor.process.job import take_all_along

_POLL_S = 0.05
_SHM = Path("/dev/shm")  # noqa: S108 - where torch and multiprocessing put shared memory
_TRACKER = "multiprocessing.resource_tracker"
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run one child under guard; see the module's text."""
    token = sys.argv[1]
    _adopt_orphans()
    take_all_along()
    request = sys.stdin.readline()
    if not request:
        return
    commands: list[str] = []
    closed = threading.Event()
    threading.Thread(target=_listen, args=(commands, closed), daemon=True).start()
    child = _start(request)
    pids = {child.pid}
    while child.poll() is None and not closed.is_set():
        if _SHM.is_dir():  # to remove what they leave there; elsewhere to list them takes half a core
            pids |= set(_session())
        if "stacks" in commands:
            commands.clear()
            _dump_stacks()
        closed.wait(_POLL_S)
    code = child.poll()
    _end_all(child, pids, token)
    with contextlib.suppress(OSError, ValueError):  # the listener may be gone
        print(json.dumps({"event": "ended", "code": code}), flush=True)  # noqa: T201 - the protocol


def _start(request: str) -> subprocess.Popen[bytes]:
    """Start the process that takes the request, or the command that is in it."""
    values = json.loads(request)
    if "command" in values:
        return subprocess.Popen(
            values["command"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # the log
            env={**os.environ, **values["environ"]},
        )
    child = subprocess.Popen(
        [values["python"], "-m", "dsrface.doctor.process.child"],
        stdin=subprocess.PIPE,
        env={**os.environ, **values.get("environ", {})},
    )
    assert child.stdin is not None
    with contextlib.suppress(OSError):  # a child that died at once is reported by its exit code
        child.stdin.write(request.encode())
        child.stdin.close()
    return child


def _listen(commands: list[str], closed: threading.Event) -> None:
    for line in sys.stdin:  # line by line: a command must be seen when it comes
        commands += [line.strip()]
    closed.set()


def _dump_stacks() -> None:
    """Make every Python process write where it stands: faulthandler does on SIGABRT, and it ends."""
    if not hasattr(signal, "SIGKILL"):
        return
    for pid in sorted(_session(), reverse=True):
        line = _command_line(pid)
        if _TRACKER in line or "multiprocessing.forkserver" in line:
            continue
        print(f"\n--- process {pid}: {line[:200]}", file=sys.stderr, flush=True)  # noqa: T201 - into the log
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGABRT)
        time.sleep(0.15)


def _end_all(child: subprocess.Popen[bytes], pids: set[int], token: str) -> None:
    """Kill every process of the session except this one, then remove what they left in shared memory."""
    if os.name == "nt":
        for pid in _session():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)  # TerminateProcess
        child.wait()
        return
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        members = _session()
        pids |= set(members)
        # The resource tracker unlinks named semaphores once its last client is gone; give it a moment.
        others = [pid for pid in members if _TRACKER not in _command_line(pid)]
        victims = others or (members if time.monotonic() > deadline - 4 else [])
        for pid in victims:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        if not members:
            break
        time.sleep(0.02)
    with contextlib.suppress(Exception):
        child.wait(timeout=1)
    _clean_shared_memory(pids, token)


def _clean_shared_memory(pids: set[int], token: str) -> None:
    if not _SHM.is_dir():
        return
    prefixes = tuple(f"torch_{pid}_" for pid in pids)
    for entry in _SHM.iterdir():
        if entry.name.startswith(prefixes) or token in entry.name:
            with contextlib.suppress(OSError):
                entry.unlink()


def _session() -> list[int]:
    """Return the processes of this session and all descendants, without this process."""
    own, session = os.getpid(), os.getsid(0) if hasattr(os, "getsid") else 0
    table: dict[int, tuple[int, int]] = {}
    if not Path("/proc/self/stat").exists():
        return _children()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
                state, parent, _, sid = fields.rpartition(")")[2].split()[:4]
                if state not in ("Z", "X"):
                    table[int(name)] = (int(parent), int(sid))
    found = {pid for pid, (_, sid) in table.items() if sid == session}
    grown = True
    while grown:
        more = {pid for pid, (parent, _) in table.items() if parent in found or parent == own} - found
        found |= more
        grown = bool(more)
    return sorted(found - {own})


def _children() -> list[int]:
    """Return all descendants where there is no /proc; none while the system cannot tell."""
    import psutil

    with contextlib.suppress(Exception):  # processes come and go meanwhile; psutil raises much on Windows
        return [process.pid for process in psutil.Process().children(recursive=True)]
    return []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _adopt_orphans() -> None:
    """Linux: a process whose parent died becomes a child of this one, so none escapes by forking twice."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
