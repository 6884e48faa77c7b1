"""The signals that ask a program to end: Ctrl-C, a supervisor, a terminal or window that was closed."""

from __future__ import annotations

import signal

# SIGHUP: the terminal is gone (POSIX). SIGBREAK: Ctrl-Break, a closed window, a logoff (Windows).
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return those that this system has and that are not turned off, as `nohup` does with SIGHUP."""
    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return tuple(
        item
        for item in known
        if item in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(item) != signal.SIG_IGN
    )
