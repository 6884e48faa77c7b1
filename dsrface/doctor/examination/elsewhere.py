"""Examine a data set in another Python: that of its project, which need not have this package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.examination import examine
from dsrface.doctor.process import probe
from dsrface.doctor.report import Report
from dsrface.errors import UsageError
from dsrface.events import Event
from dsrface.runtime.start_methods import default_start_method

_OLDEST_PYTHON = (3, 9)
_OLDEST_TORCH = (1, 13)
_ANSWER_S = 60
_WHAT_TO_NAME = "Name the Python of the project, such as --python .venv/bin/python."
_QUESTION = """
import json, multiprocessing, platform, sys
try:
    from importlib.metadata import version
    torch = version("torch")
except Exception:
    torch = ""
method = multiprocessing.get_all_start_methods()[0]
print(json.dumps([sys.version_info[:2], platform.python_version(), method, torch]))
"""


@dataclass(frozen=True)
class Interpreter:
    """Another Python.

    Args:
        path: Of its program.
        version: Such as `3.9.18`.
        start_method: How it starts workers by default.
        torch: Version of its torch.
    """

    path: str
    version: str
    start_method: str
    torch: str


def ask(program: str) -> Interpreter:
    """Ask a Python what it is.

    Raises:
        UsageError: it is not there or no Python, it is older than 3.9, or its torch than 1.13.
    """
    path = shutil.which(program)
    if path is None:
        raise UsageError(f"There is no program {program!r}.", id="no-such-program", hint=_WHAT_TO_NAME)
    try:
        done = subprocess.run(
            [path, "-c", _QUESTION], capture_output=True, text=True, timeout=_ANSWER_S, check=True
        )
        series, version, start_method, torch = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise _unfit(f"{program} does not answer as a Python does: {error}.") from None
    if tuple(series) < _OLDEST_PYTHON:
        raise _unfit(f"{program} is Python {version}; the doctor needs 3.9 or later there.")
    if not torch:
        raise _unfit(f"{program}, Python {version}, has no torch.")
    if tuple(map(int, re.findall(r"\d+", torch)[:2])) < _OLDEST_TORCH:
        raise _unfit(f"{program} has torch {torch}; the doctor needs 1.13 or later there.")
    return Interpreter(path, version, start_method, torch)


def examine_elsewhere(
    config: DoctorConfig,
    *,
    target: dict[str, Any] | None,
    emit: Callable[[Event], None],
    spent_s: float = 0.0,
) -> Report:
    """Examine a data set in the Python that `config.python` names.

    Args:
        config: What to check.
        target: As of `examination.examine`.
        emit: Takes the progress.
        spent_s: Seconds of the budget that are gone already.

    Raises:
        UsageError: that Python cannot be used.
    """
    python = ask(str(config.python))
    source = f"default of Python {python.version}" if config.start_method in ("auto", "all") else ""
    if config.start_method == "auto" and python.start_method != default_start_method():
        config = config.model_copy(update={"start_method": python.start_method})
    if target is not None:
        target = {**target, "python": {"python": python.version, "source": source}}
    run_stage = partial(probe.run_stage, python=python.path)
    report = examine(config, target=target, emit=emit, run_stage=run_stage, spent_s=spent_s)
    platform = {**report.platform, "python": python.version}
    return replace(report, platform={**platform, "start_method_source": source or "--start-method"})


def _unfit(message: str) -> UsageError:
    return UsageError(message, id="bad-python", hint=_WHAT_TO_NAME)
