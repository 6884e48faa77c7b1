"""Inside a launched process: notice that a batch does not come.

Standard library only, syntax of Python 3.9.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

_IDLE_S = 2.0  # after which the thread ends: better no thread while workers are forked
_LOOK_S = 0.5


class NoBatch(BaseException):
    """No batch came; raised in the thread that waits, and never seen by the script."""


class Patience:
    """Waits for batches, for a time.

    torch waits for its workers by looking every five seconds, so that the wait can be ended from another
    thread. Code that hangs in the process itself cannot; something else may be done meanwhile.

    Args:
        limit_s: The longest wait.
        meanwhile: Called in another thread when a wait has become longer, which then lasts as long as this
            does at least; None to end the wait.
    """

    def __init__(self, limit_s: float, meanwhile: Callable[[], object] | None = None) -> None:
        self.limit_s = limit_s
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._since: float | None = None
        self._last = 0.0
        self._waiter = 0
        self._thread: threading.Thread | None = None
        self._busy: threading.Thread | None = None  # doing something meanwhile
        self._ends = threading.Event()

    def wait(self, fetch: Callable[[], Any]) -> Any:
        """Return what a function returns.

        Raises:
            NoBatch: it took longer than the limit, and nothing is to be done meanwhile.
        """
        with self._lock:
            self._since, self._waiter = time.monotonic(), threading.get_ident()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="dsrface-patience", daemon=True)
                self._thread.start()
        try:
            return fetch()
        finally:
            with self._lock:
                self._since, self._last = None, time.monotonic()
                busy, self._busy = self._busy, None
            if busy is not None:
                busy.join()

    def end(self) -> None:
        """End the thread: nothing is waited for any more."""
        thread = self._thread
        self._ends.set()
        if thread is not None:
            thread.join()
        self._ends.clear()

    def _watch(self) -> None:
        if self._has_waited_long() and self._meanwhile is not None:
            self._meanwhile()

    def _has_waited_long(self) -> bool:
        """Return True once a wait is too long, ended if there is nothing to do meanwhile; False when idle."""
        is_long = False
        while not self._ends.wait(_LOOK_S):
            with self._lock:
                now = time.monotonic()
                if self._since is None and now - self._last > _IDLE_S:
                    break
                is_long = self._since is not None and now - self._since > self.limit_s
                if is_long and self._meanwhile is not None:
                    self._busy = self._thread
                elif is_long:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(self._waiter), ctypes.py_object(NoBatch)
                    )
                if is_long:
                    break
        with self._lock:
            self._thread = None
        return is_long
