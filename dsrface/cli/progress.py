"""Events on stderr: one redrawn line on a terminal, plain lines elsewhere, JSON lines for programs.

Nothing here starts a thread: a redraw thread alive while workers fork could leave them a held lock.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from dsrface.cli.output import Output
from dsrface.doctor.report import NEED_ATTENTION, Finding
from dsrface.engine.sinks import Sink, as_json, as_text, numbers_text
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
from dsrface.runtime.text import json_text, printable, without_addresses

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

REDRAW_EVERY_S = 0.25
LINE_EVERY_S = 10.0
FIRST_LINE_S = 2.0
_WIDTH_FOR_BAR = 80
_ROWS_BELOW = 3


def make_sink(output: Output) -> Sink:
    """Return the sink for this terminal, verbosity and format."""
    if output.verbosity < 0:
        return QuietSink(output)
    if output.err.is_terminal and not output.err.is_dumb_terminal:
        return RichSink(output)
    if output.json:
        return JsonSink(is_chatty=output.verbosity > 0)
    return LineSink(output)


class QuietSink:
    """Only what calls for action."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def emit(self, event: Event) -> None:
        """Print warnings."""
        if isinstance(event, Note) and event.is_warning and not self.output.json:
            self.output.note(f"warning: {event.message}", style="yellow")

    def close(self) -> None:
        """Nothing to close."""


class JsonSink:
    """Events as JSON lines on stderr, when asked for with -v."""

    def __init__(self, *, is_chatty: bool) -> None:
        self.is_chatty = is_chatty

    def emit(self, event: Event) -> None:
        """Print one line."""
        if self.is_chatty:
            sys.stderr.write(json_text(as_json(event)) + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Nothing to close."""


class LineSink:
    """Plain lines without control codes: milestones and findings at once, steps and counts every 10 s."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._quiet_until = 0.0
        self._run = RunClock()
        self._stage = StageClock()
        self._warned: set[str] = set()

    def emit(self, event: Event) -> None:
        """Print the event when it is a milestone or its time has come."""
        if isinstance(event, RunStarted):
            self._run.start(event)
        if self._is_due(event):
            self.output.note(self._text(event))

    def close(self) -> None:
        """Nothing to close."""

    def _is_due(self, event: Event) -> bool:
        match event:
            case CheckDone():
                was_warned = event.id in self._warned  # what is settled later is heard of as well
                self._warned |= {event.id} if event.status in NEED_ATTENTION else set()
                return was_warned or event.status in NEED_ATTENTION
            case StepDone():
                return self._is_time()
            case Progress():
                if self._stage.hear(event):
                    self._keep_quiet(FIRST_LINE_S)  # what is done sooner says so once, at its end
                return 0 < event.total <= event.done or self._is_time()
        return _is_shown(event, self.output.verbosity)

    def _text(self, event: Event) -> str:
        match event:
            case StepDone():
                return self._run.line(event, 0)
            case Progress():
                return milestone(event) + self._stage.left(event)
        return milestone(event)

    def _is_time(self) -> bool:
        if time.monotonic() < self._quiet_until:
            return False
        self._keep_quiet(LINE_EVERY_S)
        return True

    def _keep_quiet(self, seconds: float) -> None:
        self._quiet_until = time.monotonic() + seconds


class RichSink:
    """One line that is redrawn: step, images/s, time left, share of waiting for data, last metrics.

    Above it stands what an examination has found so far, until the report takes its place.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self._live: Live | None = None
        self._redrawn = 0.0
        self._run = RunClock()
        self._stage = StageClock()
        self._text = ""
        self._checks: dict[str, Finding] = {}

    def emit(self, event: Event) -> None:
        """Print milestones above the line, and redraw it a few times a second."""
        if isinstance(event, RunStarted):
            self._run.start(event)
        if isinstance(event, StepDone):
            self._redraw(self._run.line(event, self.output.err.width), is_forced=False)
        elif isinstance(event, Progress):
            self._redraw(self._progress(event), is_forced=0 < event.total <= event.done)
        elif isinstance(event, CheckDone):
            self._checks[event.id] = Finding(**asdict(event))
            self._redraw(self._text, is_forced=event.status in NEED_ATTENTION)
        elif isinstance(event, RunFinished):
            self._clear()
        elif _is_shown(event, self.output.verbosity):
            is_best = isinstance(event, EvalDone) and event.is_best
            is_warning = isinstance(event, Note) and event.is_warning
            self.output.note(milestone(event), style="yellow" if is_warning else "green" if is_best else None)

    def close(self) -> None:
        """Take the line away."""
        self._clear()

    def _progress(self, event: Progress) -> str:
        self._stage.hear(event)
        if event.total:
            how_far = f"{bar(event.done / event.total)} {event.done}/{event.total}"
        else:
            how_far = str(event.done) if event.done else duration(self._stage.spent_s)
        return f"{event.label}  {how_far}{self._stage.left(event)}"

    def _redraw(self, text: str, *, is_forced: bool) -> None:
        now = time.monotonic()
        if not is_forced and now - self._redrawn < REDRAW_EVERY_S:
            return
        self._redrawn, self._text = now, text
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self.output.err, auto_refresh=False, transient=True)
            self._live.start()
        from rich.text import Text

        line = Text(printable(text), no_wrap=True, overflow="ellipsis")
        self._live.update(self._below_findings(line) if self._checks else line, refresh=True)

    def _below_findings(self, line: Text) -> RenderableType:
        """Return the line below the last findings that fit the terminal."""
        from rich.console import Group
        from rich.text import Text

        from dsrface.cli.doctor_report import lines_so_far

        console = self.output.err
        found = lines_so_far(self._checks.values(), console)
        return Group(*found[-max(1, console.height - _ROWS_BELOW) :], Text(""), line)

    def _clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class StageClock:
    """Since when something goes on, and how long it will take."""

    def __init__(self) -> None:
        self._label = ""
        self._started = 0.0

    def hear(self, event: Progress) -> bool:
        """Note what goes on; return whether it has just begun."""
        if event.label == self._label:
            return False
        self._label, self._started = event.label, time.monotonic()
        return True

    @property
    def spent_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def left(self, event: Progress) -> str:
        """Return `  42s left`, with `about` where the event says it; nothing where it is unknown."""
        if event.left_s is not None:
            return f"  about {duration(event.left_s)} left"
        return time_left(self.spent_s, event.done, event.total)


class RunClock:
    """Turns steps into the progress line of a run."""

    def __init__(self) -> None:
        self._num_steps = 0
        self._first_step = 0
        self._command = ""
        self._started = 0.0

    def start(self, event: RunStarted) -> None:
        """Note how far the run has to go."""
        self._num_steps, self._first_step, self._command = event.num_steps, event.first_step, event.command
        self._started = time.monotonic()

    def line(self, event: StepDone, width: int) -> str:
        """Return the line for a step; on a narrow terminal without the bar."""
        done = event.step - self._first_step
        spent = time.monotonic() - self._started
        left = time_left(spent, done, self._num_steps - self._first_step)
        fraction = event.step / self._num_steps if self._num_steps else 0.0
        numbers = numbers_text(event.metrics)
        wait = f"{event.data_wait_fraction:.0%} data wait"
        drawn = f"{bar(fraction)} " if width >= _WIDTH_FOR_BAR else ""
        return (
            f"{self._command}  {drawn}{event.step}/{self._num_steps}  "
            f"{event.images_per_s:.0f} images/s{left}  {wait}  {numbers}"
        )


def milestone(event: Event) -> str:
    """Return the line of an event that stays on the screen."""
    text = without_addresses(as_text(event))
    return f"warning: {text}" if isinstance(event, Note) and event.is_warning else text


def bar(fraction: float, width: int = 12) -> str:
    """Return a progress bar of plain ASCII."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return "[" + "#" * filled + "." * (width - filled) + "]"


def time_left(spent_s: float, done: int, total: int) -> str:
    """Return `  42s left`; nothing before the first of `total` is done, or where the total is not known."""
    return f"  {duration(spent_s / done * (total - done))} left" if 0 < done < total else ""


def duration(seconds: float) -> str:
    """Return a time span as people say it: 42s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _is_shown(event: Event, verbosity: int) -> bool:
    if isinstance(event, CheckpointSaved):
        return verbosity > 0
    return not isinstance(event, RunFinished)
