"""Windows: how much memory the system may still promise, RAM and page file together."""

from __future__ import annotations

import ctypes
import os
from typing import Any


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load_percent", ctypes.c_uint32),
        ("total_ram", ctypes.c_uint64),
        ("free_ram", ctypes.c_uint64),
        ("total_commit", ctypes.c_uint64),
        ("free_commit", ctypes.c_uint64),
        ("total_addresses", ctypes.c_uint64),
        ("free_addresses", ctypes.c_uint64),
        ("free_extended", ctypes.c_uint64),
    )


def free_commit_bytes() -> int | None:
    """Return the bytes that may still be committed; None where the system has no such limit or does not tell.

    Asked of the system itself: psutil's figure of the page file needs performance counters, which may be off.
    """
    if os.name != "nt":
        return None
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel: Any = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009 - mypy knows it on Windows only
    return int(status.free_commit) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None
