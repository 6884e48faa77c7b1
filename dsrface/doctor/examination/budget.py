"""How the seconds of an examination are shared out, and when it has to end."""

from __future__ import annotations

import time

_OVERRUN = 1.12  # the end is asked for then; writing stacks and ending processes takes a moment
_LOAD_SHARE, _MOST_LOAD_S = 0.1, 3.0
_MEASURE_SHARE, _MOST_MEASURE_S = 0.05, 1.5
_PROOF_SHARE, _MOST_PROOF_S = 0.12, 3.0
_MOST_SWEEP_S = 8.0


class Budget:
    """A clock that runs from the start of the examination.

    Args:
        seconds: What `--budget` says.
        spent_s: Seconds that were spent before, e.g. on starting this process for it.
    """

    def __init__(self, seconds: float, *, spent_s: float = 0.0) -> None:
        self.seconds = seconds
        self.start = time.monotonic() - spent_s

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def left_s(self) -> float:
        """Seconds until a stage has to end, whatever it does."""
        return _OVERRUN * self.seconds - self.spent_s

    @property
    def load_s(self) -> float:
        """Seconds for loading items without workers."""
        return min(_MOST_LOAD_S, _LOAD_SHARE * self.seconds)

    @property
    def measure_s(self) -> float:
        """Seconds for measuring items."""
        return min(_MOST_MEASURE_S, _MEASURE_SHARE * self.seconds)

    @property
    def proof_s(self) -> float:
        """Seconds for loading items by workers."""
        return min(_MOST_PROOF_S, _PROOF_SHARE * self.seconds)

    def sweep_until(self, ready_s: float) -> float:
        """Return when timing has to end, on the monotonic clock.

        Args:
            ready_s: Seconds until it can begin.
        """
        return min(self.start + self.seconds, time.monotonic() + ready_s + _MOST_SWEEP_S)
