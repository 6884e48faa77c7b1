"""How long a training loop waits for each batch, and how long it works on it; syntax of Python 3.9."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any


class Backwards:
    """Counts the calls of backward in this process: a loop that calls it trains."""

    def __init__(self) -> None:
        self.calls = 0
        self._is_listening = False

    def listen(self) -> None:
        """Count from now on; a tensor's own backward goes this way too."""
        if self._is_listening:
            return
        self._is_listening = True
        import torch

        backward: Any = torch.autograd.backward

        @functools.wraps(backward)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return backward(*args, **kwargs)

        torch.autograd.backward = counted


class StepTimes:
    """Times of one loop over a loader, in seconds; the first batch and step, which warm up, do not count.

    Args:
        backwards_before: Calls of backward before the loop.
    """

    def __init__(self, *, backwards_before: int = 0) -> None:
        self.backwards_before = backwards_before
        self.waits: list[float] = []
        self.steps: list[float] = []
        self._handed = self._starting_s = 0.0

    @property
    def num_steps(self) -> int:
        """Steps that have ended."""
        return len(self.steps)

    def start(self, begin_iteration: Callable[[], Any]) -> Any:
        """Begin an iteration, which may start workers: its first batch is waited for from then on."""
        begin = time.perf_counter()
        iterator = begin_iteration()
        self._starting_s = time.perf_counter() - begin
        return iterator

    def forget_unfinished(self) -> None:
        """Drop the batch of a step that was never seen to end: the loop was left."""
        del self.waits[len(self.steps) :]

    def wait(self, fetch: Callable[[], Any]) -> Any:
        """Fetch a batch and note how long it took."""
        begin = time.perf_counter()
        batch = fetch()
        self.waits.append(time.perf_counter() - begin + self._starting_s)
        self._starting_s = 0.0
        return batch

    def handed(self) -> None:
        """Note that the loop gets the batch now."""
        self._handed = time.perf_counter()

    def step_ended(self) -> None:
        """Note that the loop asks for the next batch."""
        if len(self.waits) > len(self.steps):
            self.steps.append(time.perf_counter() - self._handed)

    def summary(self) -> dict[str, float]:
        """Return `wait_s` and `step_s`, means a batch, and `num_steps` that they are of.

        Kernels on a GPU still running count as part of the steps.
        """
        begin = time.perf_counter()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        left = time.perf_counter() - begin
        waits, steps = self.waits[1:] or self.waits, self.steps[1:] or self.steps
        return {
            "wait_s": sum(waits) / max(1, len(waits)),
            "step_s": (sum(steps) + left) / max(1, len(steps)),
            "num_steps": len(steps),
        }
