"""What an examination is doing, how far that is, and how much longer all of it should take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dsrface.doctor.examination.budget import Budget
from dsrface.events import Event, Progress

# Seconds that a step takes besides importing torch; the items of most data sets load in far less.
_SECONDS: Mapping[str, float] = {"survey": 2.0, "prove": 5.0, "sweep": 8.0}
_IMPORT = "import torch"
_LEAST_S = 1.0
_AGAIN_S = 0.5


class Steps:
    """Tells of the steps, in the process that waits for them.

    Every step has a process of its own, which imports torch first. How long that takes here is known after
    the first time, and nothing is promised before.

    Args:
        emit: Takes the progress.
        budget: Of the examination.
        plan: The steps it should have, keys of `_SECONDS`.
    """

    def __init__(self, emit: Callable[[Event], None], budget: Budget, plan: Iterable[str]) -> None:
        self._emit = emit
        self._budget = budget
        self._plan = list(plan)
        self._import_s: float | None = None
        self._heading, self._label, self._done, self._total = "", "", 0, 0
        self._expected_s, self._started, self._said = 0.0, time.monotonic(), 0.0

    def begin(self, step: str, label: str) -> None:
        """Tell that a step begins; those planned before it are done or were not needed."""
        if step in self._plan:
            self._plan = self._plan[self._plan.index(step) + 1 :]
        self._expected_s, self._started, self._heading = _SECONDS[step], time.monotonic(), label
        self._say(label)

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of the process of a step, or that there was none for a moment."""
        match event:
            case {"event": "imported", "import_s": seconds}:
                self._import_s = seconds
            case {"event": "stage", "name": name}:
                if self._import_s is None and name != _IMPORT:
                    self._import_s = 0.0  # a process that had torch already
                self._say(f"{self._heading}: {name}" if name == _IMPORT else name)
            case {"event": "progress", "done": done, "total": total}:
                self._say(self._label, done, total)
            case {"event": "silence"}:
                self._say(self._label, self._done, self._total)

    def left_s(self) -> float | None:
        """Return the seconds that all should still take; None when that cannot be known yet."""
        if self._import_s is None:
            return None
        spent = time.monotonic() - self._started
        now = max(_LEAST_S, self._expected_s + self._import_s - spent)
        later = sum(_SECONDS[step] + self._import_s for step in self._plan)
        return max(0.0, min(now + later, self._budget.left_s))

    def _say(self, label: str, done: int = 0, total: int = 0) -> None:
        now = time.monotonic()
        is_due = label != self._label or now - self._said >= _AGAIN_S
        self._label, self._done, self._total = label, done, total
        if not is_due:
            return
        self._said = now
        self._emit(Progress(label, done, total, self.left_s()))
