"""A disk that fails at its n-th operation, in the manner of SQLite's I/O error tests.

`Injector` stands between a command and the system. It counts every operation that changes the disk and,
before the n-th, ends the process as SIGKILL would or lets the operation fail as a full or broken disk does.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 137
FAILED = 70
KINDS = ("kill", "full", "broken")
_CALLS = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "fsync", "truncate", "symlink", "link")
_ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO}


class Injector:
    """Counts the operations on files and breaks one of them.

    Args:
        kind: One of `KINDS`.
        at: The operation that fails, from 0; -1 counts only.
    """

    def __init__(self, kind: str = "kill", at: int = -1) -> None:
        self.kind, self.at, self.count = kind, at, 0

    def install(self) -> None:
        """Put itself before the system's calls, for the rest of this process."""
        for name in _CALLS:
            setattr(os, name, self._wrapped(getattr(os, name)))
        os.open = self._wrapped(
            os.open, is_write=lambda _, flags=0, *rest, **more: bool(flags & (os.O_WRONLY | os.O_RDWR))
        )
        for module in (builtins, io):
            module.open = self._wrapped(io.open, is_write=_opens_to_write)  # type: ignore[attr-defined]

    def step(self) -> None:
        """Count one operation; the chosen one fails."""
        number, self.count = self.count, self.count + 1
        if number != self.at:
            return
        if self.kind == "kill":
            os._exit(KILLED)
        raise OSError(_ERRORS[self.kind], os.strerror(_ERRORS[self.kind]))

    def _wrapped(
        self, call: Callable[..., Any], is_write: Callable[..., bool] | None = None
    ) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if is_write is None or is_write(*args, **kwargs):
                self.step()
            return call(*args, **kwargs)

        return run


def _opens_to_write(file: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
    return bool(set(mode) & set("wax+")) and not str(file).startswith(("/dev", "/proc"))


def in_child(work: Callable[[], int], log: Path) -> int:
    """Run `work` in a fork of this process and return its exit code; its traceback, if any, goes to `log`."""
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            code = work()
        except BaseException:
            log.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
