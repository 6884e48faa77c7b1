"""Watch in a forked worker whether the position of a file that was open before the fork moves.

All forked processes share that position. A worker that moves it reads where others have sought: a wrong item
now and then, without an error. The watch needs no race and no list of types. It clears reads that do not use
the position (pread, memory maps, HDF5, LMDB), and it sees handles wherever they are held.
Source: open(2), "open file description"; /proc/PID/fdinfo in proc(5); TCP_INFO in tcp(7).
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import Any

_FDINFO = "/proc/self/fdinfo"
_TCP_INFO = 11
_TCP_INFO_BYTES = 232
_BYTES_ACKED = 120  # offset in struct tcp_info, followed by bytes_received
_STANDARD = 3
_IGNORED = ("/dev/", "/proc/", "/sys/", "/memfd:")


def can_watch() -> bool:
    """Return whether this system tells positions of descriptors (Linux)."""
    return os.path.isdir(_FDINFO)


def open_descriptors() -> list[int]:
    """Return the open descriptors of this process, the one of this listing left out."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError, ValueError):
                os.fstat(int(name))
                found.append(int(name))
    return found


class HandleWatch:
    """Remembers the positions of the descriptors that are open now.

    Args:
        with_connections: Watch TCP connections too. Those of a script that runs, to a tracker or another
            rank, move by themselves.
    """

    def __init__(self, *, with_connections: bool = True) -> None:
        self._start = {
            fd: place
            for fd in open_descriptors()
            if (place := position(fd)) is not None
            and (with_connections or not place[0].startswith("socket:"))
        }
        outputs = {_identity(fd) for fd in range(_STANDARD)}
        for fd in [fd for fd in self._start if fd < _STANDARD or _identity(fd) in outputs]:
            del self._start[fd]
        self._at_end = list(_readers_at_end(self._start))

    def moved(self) -> list[tuple[int, str]]:
        """Return descriptor and name of what has moved since."""
        moved = {
            fd: before[0]
            for fd, before in self._start.items()
            if (now := position(fd)) is not None and now[0] == before[0] and now[1] != before[1]
        }
        for fd, reader, place in self._at_end:
            if _place_of(reader) not in (place, None):
                moved.setdefault(fd, self._start[fd][0])
        return list(moved.items())

    def watched(self) -> int:
        """Return how many descriptors are watched."""
        return len(self._start)


def _readers_at_end(start: Mapping[int, tuple[str, tuple[int, ...]]]) -> Iterator[tuple[int, Any, int]]:
    """Yield descriptor, Python's reader and its own place where a file is read to its end.

    A file that fits into the reader's buffer is at its end after every read, and so does not seem to move.
    """
    ends = {fd for fd, (_, place) in start.items() if len(place) == 1 and place[0] == os.fstat(fd).st_size}
    for reader in gc.get_objects() if ends else ():
        if type(reader) in (io.BufferedReader, io.BufferedRandom):
            place = _place_of(reader)
            if place is not None and reader.fileno() in ends:
                yield reader.fileno(), reader, place


def _place_of(reader: Any) -> int | None:
    """Return where in its file a reader is; None for one that is closed or cannot tell."""
    try:
        return int(reader.tell())
    except (OSError, ValueError):
        return None


def position(fd: int) -> tuple[str, tuple[int, ...]] | None:
    """Return name and position of a descriptor that is read; None for pipes, devices and write-only files."""
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
        if name.startswith("socket:"):
            return _stream_position(fd, name)
        if not stat.S_ISREG(os.fstat(fd).st_mode) or name.startswith(_IGNORED):
            return None
        with open(f"{_FDINFO}/{fd}", encoding="ascii") as info:
            fields = dict(line.split(":", 1) for line in info if ":" in line)
        flags = int(fields["flags"], 8)
        if flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_APPEND:
            return None  # a log: its position moves when it is written
        return name, (int(fields["pos"]),)
    except (OSError, ValueError, KeyError):
        return None


def _stream_position(fd: int, name: str) -> tuple[str, tuple[int, ...]] | None:
    """Return the bytes that a TCP connection sent and received; None for other sockets."""
    with socket.socket(fileno=os.dup(fd)) as connection:
        info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
        peer = connection.getpeername()
    return f"{name} to {peer[0]}:{peer[1]}", struct.unpack_from("QQ", info, _BYTES_ACKED)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino
