"""Scan files and folders: which files are read, and what the rules find in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface import __version__
from dsrface.doctor.scan.notebook import SUFFIX, Notebook
from dsrface.doctor.scan.rule import Finding
from dsrface.doctor.scan.rules import RULES
from dsrface.doctor.scan.source import Source
from dsrface.errors import UsageError
from dsrface.runtime.text import count_text

_LEFT_OUT = {"__pycache__", "node_modules", "venv", "build", "dist", "site-packages"}
_WHAT_TO_GIVE = "Give .py or .ipynb files, or folders that have some."
_SOURCES = (".py", ".pyw", SUFFIX, "")
_CONCERNS = re.compile(r"\bDataLoader\b|Dataset\b")
_SUPPRESSED = re.compile(r"#\s*doctor:\s*ignore(?:\[([\w.,\s-]+)\])?")


@dataclass(frozen=True)
class ScanReport:
    """What was found in a source tree.

    Args:
        findings: By file and line.
        num_files: Files read.
        unreadable: Files that could not be parsed, each with the reason.
        is_strict: Warnings fail too.
    """

    findings: tuple[Finding, ...]
    num_files: int
    unreadable: tuple[str, ...]
    is_strict: bool = False

    @property
    def exit_code(self) -> int:
        """1 when something breaks workers (with `is_strict`, may break them), 3 without a source, else 0."""
        if not self.num_files:
            return 3
        graver = {"error", "warning"} if self.is_strict else {"error"}
        return int(any(finding.level in graver for finding in self.findings))

    def count(self, level: str) -> int:
        """Return how many findings have a level."""
        return sum(finding.level == level for finding in self.findings)

    def verdict_line(self) -> str:
        """Return the last line of the report."""
        words = [count_text(self.count(level), level) for level in ("error", "warning", "note")]
        unread = f", {len(self.unreadable)} could not be parsed" if self.unreadable else ""
        if not self.num_files:
            return "nothing was scanned: there is no Python source"
        return f"{', '.join(words)} in {count_text(self.num_files, 'file')}{unread}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        return {
            "schema_version": 1,
            "tool": "dsrface doctor --scan",
            "version": __version__,
            "exit_code": self.exit_code,
            "files": self.num_files,
            "unreadable": list(self.unreadable),
            "findings": [finding.to_dict() | {"fix": RULES[finding.rule].fix} for finding in self.findings],
        }


def scan(paths: Sequence[Path], *, is_strict: bool = False) -> ScanReport:
    """Read files and folders and report what breaks workers; nothing of them is run.

    A line that ends in `# doctor: ignore`, or `# doctor: ignore[scan.lambda]`, is left out.

    Raises:
        UsageError: a path does not exist.
    """
    findings: list[Finding] = []
    unreadable: list[str] = []
    num_files = 0
    for path in _files(paths):
        num_files += 1
        try:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
            if not _CONCERNS.search(text):
                continue
            if path.suffix == SUFFIX:
                notebook = Notebook.read(path)
                unreadable += notebook.unreadable
                findings += map(notebook.placed, _findings(Source.parse(path, notebook.text)))
            else:
                findings += _findings(Source.parse(path, text))
        except (OSError, SyntaxError, ValueError, RecursionError, UsageError) as error:
            unreadable.append(f"{path}: {error}")
    findings.sort(key=lambda found: (found.path, found.cell, found.line, found.column, found.rule))
    return ScanReport(tuple(findings), num_files, tuple(unreadable), is_strict)


def _findings(source: Source) -> Iterator[Finding]:
    lines = source.text.splitlines()
    for rule in RULES.values():
        for finding in rule.find(source):
            if not _is_suppressed(lines[finding.line - 1], finding.rule):
                yield finding


def _is_suppressed(line: str, rule: str) -> bool:
    found = _SUPPRESSED.search(line)
    if found is None:
        return False
    return found[1] is None or rule in {name.strip() for name in found[1].split(",")}


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(
                    name for name in folders if name not in _LEFT_OUT and not name.startswith(".")
                )
                yield from (Path(folder, name) for name in sorted(names) if name.endswith((".py", SUFFIX)))
        elif path.is_file():
            if path.suffix not in _SOURCES:
                raise UsageError(
                    "This is no Python source.",
                    id="no-such-path",
                    where=path,
                    hint=_WHAT_TO_GIVE,
                )
            yield path
        else:
            raise UsageError(
                "There is no such file or folder to scan.",
                id="no-such-path",
                where=path,
                hint=_WHAT_TO_GIVE,
            )
