"""`--help`: quick, complete, with examples; and the flags that people script against."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsrface import __version__
from dsrface.cli.execute import COMMANDS, schema_of

GOLDEN = Path(__file__).with_name("flags.txt")


def _python(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["prepare", "--help"], ["config", "show", "finetune"]]
)
def test_torch_is_not_imported(arguments):
    done = _python("-X", "importtime", "-m", "dsrface", *arguments)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"torch", "torchvision", "timm", "numpy", "PIL", "dsrface.engine.loop", "dsrface.data.datasets"}
    assert "dsrface.cli.app" in imported
    assert not imported & heavy


def test_completion_is_answered_without_torch():
    environment = {"_DSRFACE_COMPLETE": "complete_bash", "COMP_WORDS": "dsrface pre", "COMP_CWORD": "1"}
    done = _python("-X", "importtime", "-m", "dsrface", env=environment)
    assert "prepare" in done.stdout
    assert " torch\n" not in done.stderr


def test_no_arguments_print_the_help(call):
    bare, asked = call(), call("--help")
    assert (bare.code, asked.code) == (0, 0)
    assert bare.out == asked.out
    for command in COMMANDS:
        assert f"\n  {command} " in bare.out


def test_every_help_has_an_example_that_starts_with_the_command(call, generate):
    paths = [path for path, _ in generate.walk()]
    assert set(COMMANDS) <= {path.partition(" ")[0] for path in paths}
    for path in paths:
        shown = call(*path.split(), "--help")
        assert shown.code == 0, path
        assert f"  Example:\n\n      dsrface {path}" in shown.out, path


def test_help_fits_a_narrow_terminal(call, generate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for path, _ in generate.walk():
        for line in call(*path.split(), "--help").out.splitlines():
            is_text = not line.lstrip().startswith(("dsrface", "-", "Usage:"))
            assert len(line) <= 60 or not is_text, line


def test_help_fits_one_screen_and_help_all_leaves_nothing_out(call, generate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for path, function in generate.walk():
        shown = call(*path.split(), "--help").out
        assert len(shown.splitlines()) <= 50, path
        if path.partition(" ")[0] not in COMMANDS:
            continue
        whole = call(*path.split(), "--help-all").out
        parameters = inspect.signature(function).parameters.values()
        names = {name for parameter in parameters for name in generate.option_names(parameter)}
        assert [name for name in names - {"--help-all"} if name not in whole] == [], path


def test_groups_of_help_name_keys_that_have_flags():
    for command in COMMANDS:
        schema = schema_of(command)
        names = [name for group in schema.help_groups.values() for name in group]
        assert len(names) == len(set(names))
        assert set(names) <= set(schema.model_fields), command


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("dsrface doctor --explain ds.un", ["ds.unpicklable"]),
        ("dsrface train-dsr --preset ti", ["tiny"]),
    ],
)
def test_values_are_completed(words, answers):
    number = str(len(words.split()) - 1)
    environment = {"_DSRFACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}
    assert _python("-m", "dsrface", env=environment).stdout.split() == answers


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "pwsh"])
def test_completion_is_there_for_every_shell(call, shell, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = call("--show-completion", shell)
    assert shown.code == 0
    assert "_DSRFACE_COMPLETE" in shown.out


def test_version(call):
    assert call("--version").out == f"dsrface {__version__}\n"


def test_flags_are_the_ones_that_people_script_against(generate):
    """Flags may be added (then add them to flags.txt); none may go or be renamed."""
    lines = []
    for path, function in generate.walk():
        parameters = inspect.signature(function).parameters.values()
        names = [name for parameter in parameters for name in generate.option_names(parameter)]
        lines.append(f"{path}: {' '.join(sorted(names))}")
    assert "\n".join(lines) + "\n" == GOLDEN.read_text(encoding="utf-8")
