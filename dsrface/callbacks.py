"""Callbacks for trainers: they log which share of the time a training waits for data, and say it at the end.

Lightning and transformers are imported when one of their callbacks is made.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from dsrface.doctor.report import Report
from dsrface.runtime.command_line import joined

LOGGED_AS = "data_wait_share"
_HARDLY = 0.05


class WaitClock:
    """How long steps take, and how long a training waits between them; the first one does not count."""

    def __init__(self) -> None:
        self.wait_s = 0.0
        self.step_s = 0.0
        self.num_steps = 0
        self._began = 0.0
        self._ended: float | None = None

    def step_begins(self) -> None:
        """Note that a batch is there."""
        self._began = time.perf_counter()
        if self._ended is not None:
            self.wait_s += self._began - self._ended

    def step_ends(self) -> None:
        """Note that the next batch is wanted."""
        now = time.perf_counter()
        if self._ended is not None:
            self.step_s += now - self._began
            self.num_steps += 1
        self._ended = now

    def pause(self) -> None:
        """Note that what comes now is neither: validation, the end of an epoch."""
        self._ended = None

    @property
    def share(self) -> float:
        """The share of the time that was waited, in 0..1; what a GPU does meanwhile counts as no time."""
        return self.wait_s / max(1e-9, self.wait_s + self.step_s)

    def verdict(self, report: Report | None = None) -> str:
        """Return what was found in one line.

        Args:
            report: Of an examination of the loader, where there was one.
        """
        if not self.num_steps:
            return "dsrface: too few steps to say how long they wait for data"
        step_ms = 1e3 * (self.wait_s + self.step_s) / self.num_steps
        found = f"dsrface: a step takes {step_ms:.1f} ms, {self.share:.0%} of it waiting for its batch"
        if report is not None:
            return f"{found}; {report.target}: {report.verdict_line()}"
        if self.share < _HARDLY:
            return f"{found}: the loader keeps up"
        return f"{found}: dsrface doctor -- {joined(getattr(sys, 'orig_argv', sys.argv))}"


def for_lightning(*, examine: bool = False) -> Any:
    """Return a callback for `lightning.Trainer(callbacks=[...])`; logs `data_wait_share`.

    Args:
        examine: Examine the training loader at the end, which takes up to half a minute.

    Example:
        >>> lightning.Trainer(callbacks=[dsrface.callbacks.for_lightning()])  # doctest: +SKIP
    """
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback

    class DataWait(Callback):  # type: ignore[misc]  # without types where it is not installed
        """Logs the share of the time that the training waits for data."""

        def __init__(self) -> None:
            self.clock = WaitClock()

        def on_train_batch_start(self, *_: Any, **__: Any) -> None:
            self.clock.step_begins()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
            del trainer
            self.clock.step_ends()
            pl_module.log(LOGGED_AS, self.clock.share)

        def on_validation_start(self, *_: Any) -> None:
            self.clock.pause()

        def on_train_epoch_end(self, *_: Any) -> None:
            self.clock.pause()

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            if trainer.is_global_zero:
                _say(self.clock, trainer.train_dataloader if examine else None)

    return DataWait()


def for_transformers(*, examine: bool = False) -> Any:
    """Return a callback for `transformers.Trainer(callbacks=[...])`; adds `data_wait_share` to its logs.

    Args:
        examine: Examine the training loader at the end, which takes up to half a minute.

    Example:
        >>> transformers.Trainer(callbacks=[dsrface.callbacks.for_transformers()])  # doctest: +SKIP
    """
    from transformers import TrainerCallback

    class DataWait(TrainerCallback):  # type: ignore[misc]  # without types where it is not installed
        """Logs the share of the time that the training waits for data."""

        def __init__(self) -> None:
            self.clock = WaitClock()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.clock.step_begins()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.clock.step_ends()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.clock.pause()

        def on_log(self, _: Any, state: Any, __: Any, logs: Any = None, **___: Any) -> None:
            for record in (logs, state.log_history[-1] if state.log_history else None):
                if record is not None:
                    record[LOGGED_AS] = round(self.clock.share, 4)

        def on_train_end(self, _: Any, state: Any, __: Any, train_dataloader: Any = None, **___: Any) -> None:
            if state.is_world_process_zero:
                _say(self.clock, train_dataloader if examine else None)

    return DataWait()


def _say(clock: WaitClock, loader: Any) -> None:
    report = None
    if loader is not None and clock.num_steps:
        from dsrface.doctor.objects import examine_object

        report = examine_object(loader, {"step_ms": max(1e-3, 1e3 * clock.step_s / clock.num_steps)})
    print(clock.verdict(report), flush=True)  # noqa: T201 - what the callback is for
