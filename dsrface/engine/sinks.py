"""Where events go: the sinks that every run folder has, TensorBoard, and the protocol for others."""

from __future__ import annotations

import importlib.util
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from dsrface.events import (
    CheckDone,
    CheckpointSaved,
    EvalDone,
    Event,
    Note,
    Progress,
    RunFinished,
    RunStarted,
    StepDone,
)
from dsrface.runtime.text import count_text, json_text

_NAMES = {
    RunStarted: "run_started",
    StepDone: "step",
    EvalDone: "eval",
    CheckpointSaved: "checkpoint",
    Note: "note",
    Progress: "progress",
    CheckDone: "check",
    RunFinished: "run_finished",
}
_SHOWN = {  # key to its name and its format in a line of text
    "psnr_db": ("PSNR", "{:.2f} dB"),
    "psnr_gain_db": ("gain over bicubic", "{:+.2f} dB"),
    "bicubic_psnr_db": ("bicubic PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
    "bicubic_ssim": ("bicubic SSIM", "{:.3f}"),
    "auc": ("AUC", "{:.3f}"),
    "hr_auc": ("AUC of HR", "{:.3f}"),
    "eer": ("EER", "{:.1%}"),
    "d_prime": ("d'", "{:.2f}"),
    "train_accuracy": ("accuracy", "{:.1%}"),
    "holdout_accuracy": ("held-out accuracy", "{:.1%}"),
    "loss/total": ("loss", "{:.3g}"),
}


@runtime_checkable
class Sink(Protocol):
    """Takes events; must not keep the loop waiting."""

    def emit(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """Finish writing."""


class JsonlSink:
    """`metrics.jsonl`: one JSON object a line, flushed, appended to on resume.

    A line that a kill cut off is ended first, so every later line still parses.
    """

    def __init__(self, path: Path) -> None:
        self._started = time.monotonic()
        needs_newline = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file: IO[str] = path.open("a", encoding="utf-8", newline="\n")
        if needs_newline:
            self._file.write("\n")

    def emit(self, event: Event) -> None:
        """Append the event; `Progress` is for eyes only and left out."""
        if isinstance(event, Progress):
            return
        line = {"schema": 1, **as_json(event), "time_s": round(time.monotonic() - self._started, 3)}
        self._file.write(json_text(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class LogSink:
    """`log.txt`: what a person reads afterwards; everything logged under `dsrface` goes there too."""

    def __init__(self, path: Path) -> None:
        self._handler = logging.FileHandler(path, mode="a", encoding="utf-8")
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self._handler.setFormatter(formatter)
        self._handler.setLevel(logging.DEBUG)
        self._logger = logging.getLogger("dsrface")
        self._logger.addHandler(self._handler)

    def emit(self, event: Event) -> None:
        """Write one line."""
        if isinstance(event, Progress):
            return
        level = logging.WARNING if isinstance(event, Note) and event.is_warning else logging.INFO
        record = self._logger.makeRecord(self._logger.name, level, "", 0, as_text(event), (), None)
        self._handler.handle(record)

    def close(self) -> None:
        """Close the file and stop listening to the logger."""
        self._logger.removeHandler(self._handler)
        self._handler.close()


class TensorBoardSink:
    """Curves for `tensorboard --logdir`, opened at the first event; only made when the extra is installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def emit(self, event: Event) -> None:
        """Write the numbers of steps and evaluations."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        step, numbers = curves(event)
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()


class Spared:
    """A sink of others whose failure is logged once and ends no training.

    Its server may be away, or a package that it imports may be broken: the training is well.

    Args:
        sink: Takes the events until it fails.
        name: What the log calls it.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink: Sink | None = sink
        self._name = name

    def emit(self, event: Event) -> None:
        """Hand the event on."""
        self._guarded(lambda sink: sink.emit(event))

    def close(self) -> None:
        """Close the sink."""
        self._guarded(lambda sink: sink.close())

    def _guarded(self, act: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            act(self._sink)
        except Exception as error:  # noqa: BLE001 - of a library that talks to a network
            self._sink = None
            logging.getLogger("dsrface").warning(
                "%s takes no more curves: %s. The training goes on, and metrics.jsonl has them all.",
                self._name,
                error,
            )


def curves(event: Event) -> tuple[int, dict[str, float]]:
    """Return the step and the numbers of an event by the name of their curve; none for most events."""
    match event:
        case StepDone():
            numbers = {f"train/{key}": value for key, value in event.metrics.items()}
            numbers |= {"images_per_s": event.images_per_s, "data_wait_fraction": event.data_wait_fraction}
            return event.step, numbers
        case EvalDone():
            return event.step, {f"val/{key}": value for key, value in event.metrics.items()}
    return 0, {}


def run_sinks(run_dir: Path, *, use_tensorboard: bool = True) -> list[Sink]:
    """Open the sinks that every run folder has, and TensorBoard's when it is installed."""
    sinks: list[Sink] = [JsonlSink(run_dir / "metrics.jsonl"), LogSink(run_dir / "log.txt")]
    if use_tensorboard and importlib.util.find_spec("tensorboard") is not None:
        sinks.append(Spared(TensorBoardSink(run_dir / "tensorboard"), "TensorBoard"))
    return sinks


def as_json(event: Event) -> dict[str, object]:
    """Return the event as a flat JSON object: `event` names its kind, metrics merged in, NaN as null."""
    values: dict[str, object] = {"event": _NAMES[type(event)]}
    for key, value in asdict(event).items():
        if key == "metrics":
            values |= {name: _finite(number) for name, number in value.items()}
        elif isinstance(value, Path):
            values[key] = value.as_posix()
        else:
            values[key] = _finite(value)
    values["utc"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return values


def as_text(event: Event) -> str:
    """Return the event as one line of text."""
    match event:
        case RunStarted():
            resumed = f", resumed at step {event.first_step}" if event.first_step else ""
            steps = f"{count_text(event.num_steps, 'step')}{resumed}"
            return f"{event.command} in {event.run_dir}: {steps}; device: {event.device}"
        case StepDone():
            numbers, wait = numbers_text(event.metrics), f"{event.data_wait_fraction:.0%} waiting for data"
            return f"step {event.step}: {numbers}, {event.images_per_s:.0f} images/s, {wait}"
        case EvalDone():
            best = " (best)" if event.is_best else ""
            return f"step {event.step}: validation {numbers_text(event.metrics)}{best}"
        case CheckpointSaved():
            return f"step {event.step}: saved {event.path}"
        case Note():
            return event.message
        case Progress():
            far = f": {event.done}" if event.done or event.total else ""
            return f"{event.label}{far}" + (f" of {event.total}" if event.total else "")
        case CheckDone():
            return f"{event.status} {event.id}: {event.summary}"
        case RunFinished():
            return f"{event.status}: " + ", ".join(_fact_text(*fact) for fact in event.summary.items())


def numbers_text(metrics: Mapping[str, float]) -> str:
    """Return measured values as people read them: words, units, and as many digits as mean something."""
    return ", ".join(_number_text(key, value) for key, value in metrics.items())


def _number_text(key: str, value: float) -> str:
    if key in _SHOWN:
        name, form = _SHOWN[key]
        return f"{name} {form.format(value)}"
    kind, _, name = key.rpartition("/")
    return f"{name.replace('_', ' ')}{f' {kind}' if kind else ''} {value:.3g}"


def _fact_text(key: str, value: float | str) -> str:
    if isinstance(value, str) or float(value).is_integer():
        return f"{key.replace('_', ' ')} {value if isinstance(value, str) else int(value)}"
    return _number_text(key, value)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
