"""One writer at a time: a lock on a run folder or a cache, released by the system when its holder dies."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dsrface.errors import RunError
from dsrface.runtime.files import disk_error


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
        raise RunError(
            f"Another process is writing to this {what}{_named(holder)}.",
            id="locked",
            where=path.parent,
            hint="Wait for it to end, or stop it, then run the same command again.",
        ) from None
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        with contextlib.suppress(OSError):
            holder.write_text(f"{os.getpid()} {platform.node()}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _named(holder: Path) -> str:
    """Return who holds the lock: a process, and its machine where the folder is on a network drive."""
    try:
        pid, _, host = holder.read_text(encoding="utf-8").partition(" ")
        return f" (pid {int(pid)}{f' on {host}' if host and host != platform.node() else ''})"
    except (OSError, ValueError):
        return ""
