"""Standard streams that take any text and outlive their reader.

A job that is done must not fail for how it is shown: a character that the console's code page lacks, a reader
that left (`| head -1`), a terminal that was closed, a full disk below a redirected file.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from typing import Any, TextIO, cast

_GONE = (errno.EPIPE, errno.EINVAL)  # the reader has gone; Windows says EINVAL


class SafeStream:
    """A text stream whose first failed write is logged and whose later text is dropped.

    Args:
        stream: The stream; everything but writing is handed on to it.
        label: What it is called in the log.
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._label = label
        self._has_failed = False
        self.problem = ""  # why it cannot be written to, where there is still somebody to read it

    def write(self, text: str) -> int:
        """Write, or drop the text where that has failed before."""
        if not self._has_failed:
            try:
                self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush, unless writing has failed before."""
        if not self._has_failed:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        self._has_failed = True
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())  # takes what is buffered, at the exit too
        level = logging.INFO if error.errno in _GONE else logging.WARNING
        reason = error.strerror or str(error)
        self.problem = "" if error.errno in _GONE else reason
        logging.getLogger("dsrface").log(
            level, "%s cannot be written to: %s. The work goes on without it.", self._label, reason
        )


def guard_streams() -> None:
    """Make standard output and error UTF-8 unless they are a terminal, and keep them from raising."""
    for name, label in (("stdout", "Standard output"), ("stderr", "Standard error")):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, SafeStream):  # closed by who started this process
            continue
        if hasattr(stream, "reconfigure"):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
        setattr(sys, name, cast(TextIO, SafeStream(stream, label)))
