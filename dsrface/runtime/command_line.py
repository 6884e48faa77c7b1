"""The command line of this process, for reports that say how to repeat them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_PROGRAMS = ("dsrface", "__main__")


def command_line() -> str:
    """Return what was typed to start this program; empty where another program has imported it."""
    program = Path(sys.argv[0]).stem if sys.argv else ""
    return shlex.join(["dsrface", *sys.argv[1:]]) if program in _PROGRAMS else ""
