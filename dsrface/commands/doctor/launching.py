"""`dsrface doctor -- COMMAND`: examine the loaders of a launch, and say what each should use."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface import __version__
from dsrface.commands.doctor.page import write_page
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.launch.examine import LaunchReport, LoaderReport, examine_launch
from dsrface.doctor.launch.gain import gain_line
from dsrface.doctor.launch.patch import Change, changed_arguments, make_patch
from dsrface.doctor.launch.prove import proved
from dsrface.doctor.report import Report
from dsrface.errors import DataError, UsageError
from dsrface.events import Emit
from dsrface.runtime import notebooks
from dsrface.runtime.command_line import joined, quoted
from dsrface.runtime.files import write_json, write_text
from dsrface.runtime.user_code import innermost_in

_GRAVITY = ("fail", "warn", "pass")
_LAST_LINES = 6
_PROGRAMS = ("python", "python3", "torchrun", "accelerate", "deepspeed", "srun", "uv")


@dataclass(frozen=True)
class LaunchResult:
    """What was found about the loaders of a launch.

    Args:
        launch: The reports.
        written: Files that hold them.
        patch: What became of the patch that was asked for; empty when none was.
    """

    launch: LaunchReport
    written: tuple[Path, ...] = ()
    patch: str = ""

    @property
    def reports(self) -> Iterator[tuple[str, Report]]:
        """Yield a heading and the report of each loader."""
        for loader in self.launch.loaders:
            yield _heading(loader), loader.report

    @property
    def gravest(self) -> LoaderReport:
        """The loader with the worst verdict, the first of several."""
        return min(self.launch.loaders, key=lambda loader: _GRAVITY.index(loader.report.verdict))

    @property
    def summary(self) -> str:
        """The verdict on the gravest loader, in one line."""
        return f"{self.gravest.report.target}: {self.gravest.report.verdict_line()}"

    @property
    def location(self) -> str:
        """The files and the patch, when they were asked for."""
        return ", ".join(filter(None, [*map(str, self.written), self.patch]))

    @property
    def next_command(self) -> str:
        """Where to read on about the gravest finding; the command itself when there is none."""
        return self.gravest.report.read_on() or joined(self.launch.command)

    @property
    def exit_code(self) -> int:
        """That of the gravest report."""
        return self.gravest.report.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Return the reports, each with what was launched."""
        return {
            "schema_version": 1,
            "tool": "dsrface doctor -- COMMAND",
            "version": __version__,
            "command": list(self.launch.command),
            "exit_code": self.exit_code,
            "verdict": self.summary,
            "loaders": [
                {
                    **{key: value for key, value in loader.facts.items() if key != "event"},
                    "gain": gain_line(loader),
                    "report": loader.report.to_dict(),
                }
                for loader in self.launch.loaders
            ],
        }


def run_launch(config: DoctorConfig, *, emit: Emit) -> LaunchResult:
    """Launch the command and examine its loaders.

    Raises:
        UsageError: there is no such program.
        DataError: the command ended before it iterated over a DataLoader.
    """
    program, *_ = command = _command(config)
    if shutil.which(program) is None:
        raise UsageError(
            f"There is no program {program!r}.",
            id="no-such-program",
            hint=_program_hint(command),
        )
    if (script := _missing_script(command)) is not None:
        raise UsageError("There is no such file to run.", id="no-such-program", where=script)
    launch = examine_launch(config.model_copy(update={"launch": command}), emit=emit)
    if not launch.loaders:
        raise _no_loader(launch)
    if config.prove:
        launch = proved(launch, steps=config.steps, emit=emit)
    written = tuple(filter(None, (config.html, config.output)))
    result = LaunchResult(launch, written, _write_patch(launch, config.write_patch))
    if config.html is not None:
        write_page(config.html, result.reports)
    if config.output is not None:
        write_json(config.output, result.to_dict())
    return result


def _command(config: DoctorConfig) -> tuple[str, ...]:
    """Return the command to launch; a notebook stands for the one that runs its cells.

    Raises:
        UsageError: there is no such notebook.
    """
    notebook = Path(config.launch[0])
    if notebook.suffix != ".ipynb":
        return config.launch
    if not notebook.is_file():
        raise UsageError("The file does not exist.", id="bad-target", where=notebook)
    python = str(config.python or sys.executable)
    return (python, "-m", notebooks.__name__, str(notebook))


def _missing_script(command: tuple[str, ...]) -> Path | None:
    """Return the script that a Python shall run, where it is not there."""
    script = Path(next(iter(command[1:]), ""))
    is_python = Path(command[0]).name.startswith("python") and script.suffix == ".py"
    return script if is_python and not script.exists() else None


def _program_hint(command: tuple[str, ...]) -> str:
    """Return how to examine what is no program: a Python file, or a name mistyped or not found."""
    program, *rest = command
    if program in _PROGRAMS:  # many systems have `python3` alone; Windows often neither on the PATH
        here = f"The one that runs this: dsrface doctor -- {joined([sys.executable, *rest])}"
        return f"It is not on the PATH. {here if program.startswith('python') else 'Is it installed?'}"
    if program.endswith(".py") and Path(program).is_file():
        file = quoted(program)
        return f"dsrface doctor -- python {file}\nor dsrface doctor --dataset {file}:CALLABLE"
    if Path(program).is_dir():
        return f"A data set of dsrface: dsrface doctor {quoted(program)} --for finetune"
    if ":" in program and Path(program.rpartition(":")[0]).is_file():
        return f"dsrface doctor --dataset {quoted(program)}"
    near = difflib.get_close_matches(program, _PROGRAMS, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return f"{meant}After -- comes the command as you launch it: dsrface doctor -- python train.py ..."


def _write_patch(launch: LaunchReport, file: Path | None) -> str:
    """Write the recommendations as a patch; returns what became of it."""
    if file is None:
        return ""
    changes = [
        Change(loader.facts["made_at"], changed_arguments(loader.report.recommendation, loader.facts))
        for loader in launch.loaders
        if loader.report.recommendation is not None
    ]
    text, missed = make_patch(changes)
    if missed:
        return f"no patch: no call with plain arguments at {', '.join(missed)}"
    if not text:
        return "no patch: nothing to change"
    write_text(file, text)
    return f"{file} (git apply {quoted(file)})"


def _heading(loader: LoaderReport) -> str:
    facts = loader.facts
    settings = f"num_workers={facts['num_workers']}, batch_size={facts['batch_size']}"
    head = f"{facts['made_at']}: {facts['loader_class']}({facts['dataset_class']}, {settings})"
    proof = loader.report.check("perf.proof")
    lines = [head, gain_line(loader), *([f"proved: {proof.summary}"] if proof is not None else [])]
    return "\n".join(lines)


def _no_loader(launch: LaunchReport) -> DataError:
    """Return what to tell of a command that ended before there was anything to examine."""
    lines = [line for line in launch.output.splitlines() if line.strip()]
    last = "\n".join(lines[-_LAST_LINES:])
    if launch.code == 0:
        return DataError(
            "The command ran to its end and iterated over no DataLoader of torch.",
            id="no-loader",
            where=joined(launch.command),
            hint="Launch what trains; a loader that is made and not iterated over is not seen.",
        )
    reads = "EOFError" in last
    return DataError(
        f"The command ended with exit code {launch.code} before it iterated over a DataLoader"
        + (": it reads standard input, which is closed here." if reads else "."),
        id="launch-failed",
        where=innermost_in(launch.output) or joined(launch.command),
        hint=f"Its last words:\n{last}" if last else "It printed nothing.",
    )
