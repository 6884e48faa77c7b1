"""What Windows may still promise of memory."""

from __future__ import annotations

import os

import psutil

from dsrface.runtime.commit import free_commit_bytes


def test_the_system_is_asked_and_only_windows_has_the_limit():
    free = free_commit_bytes()
    assert (free is None) == (os.name != "nt")
    assert free is None or free > psutil.virtual_memory().available // 4
