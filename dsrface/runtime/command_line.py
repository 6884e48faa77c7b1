"""Commands as people paste them: this process's own for reports, and others with their words quoted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_PROGRAMS = ("dsrface", "__main__")
_ARCHIVES = {".zip": "python -m zipfile -e {} {}"} | dict.fromkeys((".tar", ".gz", ".tgz"), "tar xf {}")
_PLAIN = re.compile(r"[\w@%+=:,./\\~-]+")


def quoted(word: str | Path) -> str:
    """Return a word as the shell here takes it: cmd knows no single quotes, and PowerShell takes both."""
    text = str(word)
    if os.name != "nt":
        return shlex.quote(text)
    if _PLAIN.fullmatch(text):
        return text
    escaped = subprocess.list2cmdline([text])
    return escaped if escaped.startswith('"') else f'"{escaped}"'


def joined(words: Iterable[str]) -> str:
    """Return words as one command."""
    return " ".join(map(quoted, words))


def resume_command(command: str, data: str | Path, run: Path) -> str:
    """Return the command that goes on with a run.

    Args:
        command: Of dsrface, that trained.
        data: Data set folder.
        run: Run folder.
    """
    config = quoted(run / "config.toml")
    return f"dsrface {command} {quoted(data)} --config {config} --run {quoted(run)} --resume"


def command_line() -> str:
    """Return what was typed to start this program; empty where another program has imported it."""
    program = Path(sys.argv[0]).stem if sys.argv else ""
    return joined(["dsrface", *sys.argv[1:]]) if program in _PROGRAMS else ""


def typed_with(flag: str, *, command: str) -> str:
    """Return what was typed with a flag more; the command and the flag where another was typed."""
    typed = command_line()
    return f"{typed if typed.startswith(f'dsrface {command} ') else f'dsrface {command}'} {flag}"


def typed_instead(old: Path, new: Path) -> str:
    """Return what was typed with another path in the place of one; empty where another program runs."""
    words = [str(new) if Path(word) == old else word for word in sys.argv[1:]]
    return joined(["dsrface", *words]) if command_line() else ""


def unpack_command(path: Path) -> str:
    """Return the command that unpacks an archive; empty for another file."""
    line = _ARCHIVES.get(path.suffix.lower(), "")
    return line.format(quoted(path), quoted(path.with_suffix("")))
