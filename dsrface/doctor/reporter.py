"""How the process that runs the user's code tells the doctor what it sees: a line of JSON an event."""

from __future__ import annotations

import json
from typing import Any, TextIO

from dsrface.doctor.report import Finding


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
