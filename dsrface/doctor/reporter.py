"""How the process that runs the user's code tells the doctor what it sees: a line of JSON an event."""

from __future__ import annotations

import json
import os
from typing import Any

from dsrface.doctor.report import Finding


class Reporter:
    """Writes events to the doctor.

    Args:
        descriptor: The pipe's.
    """

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)

    def __call__(self, event: str, **values: Any) -> None:
        """Report an event."""
        self._out.write(json.dumps({"event": event, **values}, default=str) + "\n")
        self._out.flush()

    def check(self, check: Finding) -> None:
        """Report the outcome of a check."""
        self("check", **check.to_dict())
