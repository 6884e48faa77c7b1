"""Events on stderr: every sink takes every event, and says enough and no more."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dsrface.cli import progress
from dsrface.cli.output import Output
from dsrface.events import (
    CheckDone,
    CheckpointSaved,
    EvalDone,
    Note,
    Progress,
    RunFinished,
    RunStarted,
    StepDone,
)

EVENTS = [
    RunStarted(Path("runs/[/x]"), "train-dsr", "cpu, fp32 (auto: no CUDA)", 100),
    Note("a [/note]"),
    Note("look here", is_warning=True),
    *(StepDone(step, 0, {"loss/total": 0.5, "lr": 1e-3}, 120.0, 0.25) for step in range(1, 100)),
    EvalDone(100, {"psnr_db": 25.0}, is_best=True),
    CheckpointSaved(100, Path("checkpoints/step_000100")),
    *(Progress("faces", done, 50) for done in range(51)),
    RunFinished("done", {"psnr_db": 25.0}),
]


@pytest.fixture
def terminal(monkeypatch):
    """An Output whose stderr is a terminal held in memory."""
    monkeypatch.setenv("TERM", "xterm")

    def make(*, is_terminal=True, width=100, **settings):
        output = Output(**settings)
        output.err = Console(
            file=io.StringIO(),
            force_terminal=is_terminal,
            width=width,
            markup=False,
            emoji=False,
            highlight=False,
            no_color=True,
        )
        return output

    return make


def _play(output):
    sink = progress.make_sink(output)
    for event in EVENTS:
        sink.emit(event)
    sink.close()
    return sink, output.err.file.getvalue()


def test_a_pipe_gets_plain_lines_and_not_one_a_step(terminal):
    sink, text = _play(terminal(is_terminal=False))
    assert isinstance(sink, progress.LineSink)
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert sum("data" in line for line in lines) <= 2  # at most one step line in ten seconds
    assert "warning: look here" in lines
    assert "a [/note]" in lines
    assert lines[-1] == "faces: 50 of 50"
    assert not any("checkpoints" in line for line in lines)


def test_lines_of_a_log_say_how_far_it_is_and_how_long_it_takes(terminal, monkeypatch):
    now = iter(range(0, 100_000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    lines = _play(terminal(is_terminal=False))[1].splitlines()
    step = next(line for line in lines if line.startswith("train-dsr  "))
    assert re.search(r"\d+/100  120 images/s  .* left  25% data wait  loss 0.5, lr 0.001", step)
    assert any(re.fullmatch(r"faces: \d+ of 50  .* left", line) for line in lines)
    assert "step 100: validation PSNR 25.00 dB (best)" in lines


def test_verbose_shows_checkpoints(terminal):
    assert "step_000100" in _play(terminal(is_terminal=False, verbosity=1))[1]


def test_quiet_shows_only_what_calls_for_action(terminal):
    sink, text = _play(terminal(verbosity=-1))
    assert isinstance(sink, progress.QuietSink)
    assert text == "warning: look here\n"


def test_a_terminal_gets_one_line_redrawn_at_most_four_times_a_second(terminal, monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now) / 100)
    output = terminal()
    drawn = []
    monkeypatch.setattr("rich.live.Live.update", lambda self, text, refresh: drawn.append(text.plain))
    _play(output)
    steps = [line for line in drawn if line.startswith("train-dsr")]
    assert 1 <= len(steps) <= 99 / 100 / progress.REDRAW_EVERY_S * 4 + 1
    assert "120 images/s" in steps[0]
    assert "25% data wait" in steps[0]
    assert "left" in steps[0]
    assert drawn[-1].startswith("faces  [############] 50/50")


@pytest.mark.parametrize(("width", "has_bar"), [(60, False), (100, True)])
def test_data_wait_is_seen_on_narrow_terminals_too(width, has_bar):
    clock = progress.RunClock()
    clock.start(EVENTS[0])
    line = clock.line(StepDone(44, 0, {"loss/total": 0.5}, 27.0, 0.44), width)
    assert "44% data wait" in line[:width]
    assert ("[" in line) == has_bar


def test_no_time_is_promised_before_the_first_step():
    assert progress.time_left(12.0, 0, 4) == ""
    assert progress.time_left(12.0, 1, 4) == "  36s left"


def test_a_terminal_ends_clean(terminal):
    sink, text = _play(terminal(width=40))
    assert isinstance(sink, progress.RichSink)
    assert "warning: look here" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))


FOUND = CheckDone("ds.unpicklable", "warn", "dataset.f is a lambda", "train.py:5 <lambda> at 0x7f6d65238b80")
STEP = Progress("read batches", 0, 0, 9.2)


def test_a_pipe_hears_of_a_finding_at_once_and_of_its_end(terminal):
    output = terminal(is_terminal=False)
    sink = progress.make_sink(output)
    for event in (
        FOUND,
        CheckDone("ds.items", "pass", "fine"),
        replace(FOUND, status="pass", summary="gone"),
    ):
        sink.emit(event)
    assert output.err.file.getvalue().splitlines() == [
        "warn ds.unpicklable: dataset.f is a lambda",
        "pass ds.unpicklable: gone",
    ]


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_shows_findings_above_the_step_and_the_time_left(terminal, width):
    output = terminal(width=width)
    sink = progress.make_sink(output)
    sink.emit(STEP)
    sink.emit(FOUND)
    text = output.err.file.getvalue()
    assert "ds.unpicklable  dataset.f is a lambda" in text
    assert "train.py:5 <lambda>\n" in text
    assert "read batches  0s  about 9s left" in text.splitlines()[-1]
    sink.close()


def test_json_is_silent_on_a_pipe_unless_asked(terminal, capsys):
    _play(terminal(is_terminal=False, json=True))
    assert capsys.readouterr().err == ""
    _play(terminal(is_terminal=False, json=True, verbosity=1))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == len(EVENTS)
    assert {line["event"] for line in lines} >= {"run_started", "step", "eval", "progress", "run_finished"}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.4, "59s"), (185, "3m05s"), (7800, "2h10m")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text
