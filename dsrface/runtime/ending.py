"""The signals that ask a program to end: Ctrl-C, a supervisor, a terminal or window that was closed."""

from __future__ import annotations

import signal

from dsrface.errors import EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED

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


def exit_code_of(signum: int) -> int:
    """Return the exit code of a process that such a signal has ended in order."""
    codes = {signal.SIGINT: EXIT_INTERRUPTED, getattr(signal, "SIGHUP", None): EXIT_HUNG_UP}
    return codes.get(signum, EXIT_TERMINATED)


def cause_of(signum: int) -> str:
    """Return what has sent such a signal, in words."""
    name = signal.Signals(signum).name
    if name == "SIGINT":
        return "Ctrl-C (SIGINT)"
    if name == "SIGHUP":
        return "the terminal was closed (SIGHUP); what is started under nohup or tmux goes on then"
    return f"{name}, as kill, supervisors and schedulers send it"
