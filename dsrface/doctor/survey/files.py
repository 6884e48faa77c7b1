"""Which files items open: those that they write, and those that one item makes and others read."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from dsrface.runtime.user_code import users_line

_LOCKS = ("fcntl.flock", "fcntl.lockf", "msvcrt.locking")


class ItemFiles:
    """Hears of files as they are opened, renamed and locked, while it listens.

    What a library writes in C (`torch.save` does) is not heard; it shows when the file is read, for it is
    newer than this object.
    """

    _listening: ClassVar[list[ItemFiles]] = []

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # of openings for writing, by path
        self.item = 0  # the one that is being loaded
        self._begin = time.time_ns()
        self._readers: dict[str, set[int]] = {}
        self._places: dict[str, str] = {}
        self._renamed: set[str] = set()
        self.is_locked = False  # an item took the lock of a file

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Hear what happens in here."""
        _install_hook()
        self._listening.append(self)
        try:
            yield
        finally:
            self._listening.remove(self)

    def made_for_all(self) -> dict[str, str]:
        """Return the files that were made in place, without a lock, and that several items read.

        Each with the user's line that opened it first.
        """
        if self.is_locked:
            return {}
        shared = [
            path for path, items in self._readers.items() if len(items) > 1 and path not in self._renamed
        ]
        return {path: self._places[path] for path in shared if _changed_ns(path) >= self._begin}

    @classmethod
    def hear(cls, event: str, args: tuple[Any, ...]) -> None:
        """Tell an event of the interpreter to everyone who listens."""
        if cls._listening and event in ("open", "os.rename", *_LOCKS):
            for files in cls._listening:
                files.take(event, args)

    def take(self, event: str, args: tuple[Any, ...]) -> None:
        """Take an event: a file is opened, renamed or locked."""
        if event in _LOCKS:
            self.is_locked = True
        elif event == "os.rename":
            self._renamed.add(os.fsdecode(args[1]))
        elif isinstance(args[0], (str, bytes)):
            name = os.fsdecode(args[0])
            is_other = name.startswith(("/dev/", "/proc/")) or name.endswith(".pyc")
            # A nameless file is opened by its folder's name; what is appended, to a log, changes nothing.
            if not (is_other or os.path.isdir(name) or _appends(*args[1:])):
                self._opened(name, writes=_writes(*args[1:]))

    def _opened(self, path: str, *, writes: bool) -> None:
        if path not in self._places:
            self._places[path] = users_line(3)
        if writes:
            self.counts[path] = self.counts.get(path, 0) + 1
        else:
            self._readers.setdefault(path, set()).add(self.item)


def _appends(mode: str | None, flags: int) -> bool:
    return "a" in mode if mode else bool(flags & os.O_APPEND)


def _writes(mode: str | None, flags: int) -> bool:
    if mode:
        return any(letter in mode for letter in "wx+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


def _changed_ns(path: str) -> int:
    """Return when a file was written last, in nanoseconds since 1970; 0 for one that is gone."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


@functools.cache  # an audit hook cannot be removed, and each one slows every id() down
def _install_hook() -> None:
    sys.addaudithook(ItemFiles.hear)
