"""A disk that fails at its n-th operation, in the manner of SQLite's I/O error tests.

`Injector` stands between a command and the system. It counts every operation that changes the disk and,
before the n-th, ends the process as SIGKILL would or lets the operation fail as a full or broken disk does.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

KILLED = 137
KINDS = ("kill", "full", "broken")
_CALLS = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "fsync", "truncate", "symlink", "link")
_PLACES = [*((os, name) for name in (*_CALLS, "open")), (builtins, "open"), (io, "open")]
_ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO}


class Injector:
    """Counts the operations on files and breaks one of them.

    Args:
        kind: One of `KINDS`.
        at: The operation that fails, from 0; -1 counts only.
    """

    def __init__(self, kind: str = "kill", at: int = -1) -> None:
        self.kind, self.at, self.count = kind, at, 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Stand before the system's calls for the length of the `with` block."""
        before = [(module, name, getattr(module, name)) for module, name in _PLACES]
        for name in _CALLS:
            setattr(os, name, self._wrapped(getattr(os, name)))
        os.open = self._wrapped(
            os.open, is_write=lambda _, flags=0, *rest, **more: bool(flags & (os.O_WRONLY | os.O_RDWR))
        )
        for module in (builtins, io):
            module.open = self._wrapped(io.open, is_write=_opens_to_write)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for module, name, call in before:
                setattr(module, name, call)

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
