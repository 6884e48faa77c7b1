"""How long ago the command that this process is for was started, its imports included."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_START_TIME = 19  # field 22 of /proc/PID/stat, in clock ticks after boot: proc(5)
_is_for_one_command = False


def count_from_the_start() -> None:
    """Note that this process was started for one command and ends with it."""
    global _is_for_one_command  # noqa: PLW0603 - a fact about the process
    _is_for_one_command = True


def count_no_more() -> None:
    """Note that this process runs several commands, none of which had it from the start."""
    global _is_for_one_command  # noqa: PLW0603 - a fact about the process
    _is_for_one_command = False


def spent_s() -> float:
    """Return the seconds since the process was started for its command; 0 in one that runs more than that."""
    if not _is_for_one_command:
        return 0.0
    if sys.platform == "linux":  # psutil would count whole seconds only
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        age_s = since_boot_s - int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    else:
        import psutil

        age_s = time.time() - psutil.Process().create_time()
    return max(0.0, age_s)
