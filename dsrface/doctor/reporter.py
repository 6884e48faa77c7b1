"""How the process that runs the user's code tells the doctor what it sees: a line of JSON an event."""

from __future__ import annotations

import json
import traceback
from typing import Any, TextIO

from dsrface.doctor.report import Finding
from dsrface.runtime.user_code import innermost, raised_by_us


class Reporter:
    """Writes events to the doctor.

    Args:
        out: The pipe to it.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: str, **values: Any) -> None:
        """Report an event."""
        self._out.write(json.dumps({"event": event, **values}, default=str) + "\n")
        self._out.flush()

    def check(self, check: Finding) -> None:
        """Report the outcome of a check."""
        self("check", **check.to_dict())

    def crash(self, error: BaseException) -> None:
        """Report what ended a stage, and whose line raised it."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self(
            "crash",
            error=f"{type(error).__name__}: {error}",
            traceback=trace[-4000:],
            ours=raised_by_us(error),
            where=innermost(error),
        )
