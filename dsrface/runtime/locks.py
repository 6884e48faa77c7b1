"""One writer at a time: a lock on a run folder or a cache, released by the system when its holder dies.

Not every network drive passes locks on to other machines. There the holder also gives a sign of life every
few seconds, by which another machine knows it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dsrface.errors import RunError
from dsrface.runtime.files import disk_error
from dsrface.runtime.network_drives import is_on_network

_SIGN_S = 5.0
_PATIENCE_S = 30.0  # a machine may see late what another one has written


@contextlib.contextmanager
def exclusive(path: Path, *, what: str) -> Iterator[None]:
    """Hold the lock file `path` for the length of the `with` block; never wait for it.

    Args:
        path: The lock file; it stays on disk, empty locks are cheap and removing one is a race.
        what: What is locked, for the message, e.g. `"run folder"`.

    Raises:
        RunError: another process holds the lock; its pid is named, and its machine if that is another one.
        MachineError: the folder cannot be written to.
    """
    # The holder's pid is next to the lock: Windows does not let others read a locked file.
    holder = path.with_name(f"{path.name}.pid")
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise _taken(holder, what) from None
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        with _noted(holder, what):
            yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # filelock removes it on Windows, but it marks a folder of dsrface
            path.touch()


@contextlib.contextmanager
def _noted(holder: Path, what: str) -> Iterator[None]:
    """Note who holds the lock, and on a network drive that it still lives."""
    is_shared = is_on_network(holder.parent)
    if is_shared and _lives_elsewhere(holder):
        raise _taken(holder, what)
    is_over = threading.Event()

    def note(sign: int = 0) -> None:
        with contextlib.suppress(OSError):
            holder.write_text(f"{os.getpid()} {platform.node()}\n{sign}\n", encoding="utf-8")

    def live_on() -> None:
        sign = 0
        while not is_over.wait(_SIGN_S):
            note(sign := sign + 1)

    note()
    thread = threading.Thread(target=live_on, name="dsrface-lock", daemon=True)
    if is_shared:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if is_shared:
            thread.join()
        with contextlib.suppress(OSError):
            holder.unlink()


def _lives_elsewhere(holder: Path) -> bool:
    """Return whether another machine has noted itself and gives signs of life; waits for one."""
    first = _text(holder)
    _, _, host = _read(first)
    if host in ("", platform.node()):
        return False
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and holder.exists():
        time.sleep(_SIGN_S / 5)
        if _text(holder) not in ("", first):
            return True
    return False


def _taken(holder: Path, what: str) -> RunError:
    return RunError(
        f"Another process is writing to this {what}{_named(holder)}.",
        id="locked",
        where=holder.parent,
        hint="Wait for it to end, or stop it, then run the same command again.",
    )


def _text(holder: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return holder.read_text(encoding="utf-8")
    return ""


def _read(text: str) -> tuple[str, str, str]:
    """Return process number and machine of a note, as `str.partition` does."""
    return text.partition("\n")[0].partition(" ")


def _named(holder: Path) -> str:
    """Return who holds the lock: a process, and its machine where the folder is on a network drive."""
    pid, _, host = _read(_text(holder))
    if not pid.isdecimal():
        return ""
    return f" (pid {pid}{f' on {host}' if host and host != platform.node() else ''})"
