"""Ctrl-C, SIGTERM and a closed terminal as a request that the loop answers between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from dsrface.runtime.ending import ending_signals, exit_code_of


@dataclass
class Stop:
    """Whether a signal has come in, and which.

    Args:
        signum: 0, or one of `ending_signals`.
    """

    signum: int = 0

    @property
    def exit_code(self) -> int:
        """Exit code of a process that was stopped this way; 0 when it was not."""
        return exit_code_of(self.signum) if self.signum else 0


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Note the first signal; a second one ends the process at once, as a KeyboardInterrupt or SystemExit.

    Only the main thread can set handlers; elsewhere nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        if stop.signum:
            raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(exit_code_of(signum))
        stop.signum = signum

    before = {signum: signal.signal(signum, handle) for signum in ending_signals()}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
