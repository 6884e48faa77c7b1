"""What Linux says of another process: its state, the system call it is in, open files, limits."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
# Calls that a process can be blocked in for long, by the kernel's number on each machine.
_CALLS = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 17: "pread", 23: "select", 34: "pause", 35: "nanosleep",
        42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4",
        72: "fcntl", 73: "flock", 74: "fsync", 202: "futex", 230: "clock_nanosleep", 232: "epoll_wait",
        247: "waitid", 257: "openat", 270: "pselect", 271: "ppoll", 281: "epoll_wait", 285: "fallocate",
        288: "accept",
    },
    "aarch64": {
        25: "fcntl", 32: "flock", 47: "fallocate", 56: "openat", 63: "read", 64: "write", 67: "pread",
        72: "pselect", 73: "ppoll", 82: "fsync", 95: "waitid", 98: "futex", 101: "nanosleep",
        115: "clock_nanosleep", 202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom",
        211: "sendmsg", 212: "recvmsg", 242: "accept", 22: "epoll_wait", 260: "wait4",
    },
}  # fmt: skip
_WITH_DESCRIPTOR = {
    "read", "write", "pread", "connect", "accept", "sendto", "recvfrom", "sendmsg", "recvmsg", "fcntl",
    "flock", "fsync", "fallocate",
}  # fmt: skip


@dataclass(frozen=True)
class SystemCall:
    """The call that a thread is blocked in.

    Args:
        name: Such as `recvfrom`; the kernel's word for where it waits when the number cannot be read.
        target: What its descriptor is: a path, `socket:[1234]`, `pipe:[5678]`; may be empty.
    """

    name: str
    target: str = ""

    def __str__(self) -> str:
        kind = self.target.partition(":")[0] if ":[" in self.target else self.target
        return f"{self.name} on a {kind}" if ":[" in self.target else f"{self.name} {kind}".rstrip()


def system_call(pid: int) -> SystemCall | None:
    """Return the call that the main thread is blocked in; None when it runs or cannot be seen."""
    try:
        words = (_PROC / str(pid) / "syscall").read_text(encoding="ascii").split()
    except OSError:
        return _waiting_channel(pid)
    if not words or words[0] == "running":
        return None
    name = _CALLS.get(platform.machine(), {}).get(int(words[0]))
    if name is None:
        return _waiting_channel(pid) or SystemCall(f"system call {words[0]}")
    target = descriptor(pid, int(words[1], 16)) if name in _WITH_DESCRIPTOR and len(words) > 1 else ""
    return SystemCall(name, target)


def descriptor(pid: int, number: int) -> str:
    """Return what a descriptor of a process is, or ""."""
    try:
        return os.readlink(_PROC / str(pid) / "fd" / str(number))
    except OSError:
        return ""


def open_files_limit(pid: int) -> int | None:
    """Return how many files a process may have open; None without a limit or where it cannot be seen."""
    try:
        text = (_PROC / str(pid) / "limits").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def _waiting_channel(pid: int) -> SystemCall | None:
    try:
        channel = (_PROC / str(pid) / "wchan").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return SystemCall(channel) if channel not in ("", "0") else None
