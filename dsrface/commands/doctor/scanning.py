"""`dsrface doctor --scan`: read a source tree, and show or write what breaks workers."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.scan.rule import Rule
from dsrface.doctor.scan.rules import RULES
from dsrface.doctor.scan.sarif import to_sarif
from dsrface.doctor.scan.scanner import ScanReport, scan
from dsrface.errors import UsageError
from dsrface.runtime.files import write_json


@dataclass(frozen=True)
class ScanResult:
    """The findings of a scan.

    Args:
        report: What was found.
        output: File it was also written to.
    """

    report: ScanReport
    output: Path | None = None

    @property
    def summary(self) -> str:
        """The counts."""
        return self.report.verdict_line()

    @property
    def location(self) -> str:
        """The file, when one was asked for."""
        return str(self.output) if self.output is not None else ""

    @property
    def next_command(self) -> str:
        """Where to read on about the gravest finding."""
        for level in ("error", "warning"):
            for finding in self.report.findings:
                if finding.level == level:
                    return f"dsrface doctor --explain {finding.rule}"
        return ""

    @property
    def exit_code(self) -> int:
        """1 when something breaks workers."""
        return self.report.exit_code

    def lines(self) -> Iterator[str]:
        """Yield the findings as text: a line as compilers print it, then the fix."""
        for finding in self.report.findings:
            yield f"{finding.place}: {finding.level} {finding.rule}: {finding.message}"
            yield f"    fix: {RULES[finding.rule].fix}"
        for problem in self.report.unreadable:
            yield f"not parsed: {problem}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report."""
        return self.report.to_dict()


def run_scan(config: DoctorConfig) -> ScanResult:
    """Scan the files and folders that `--scan` names.

    Raises:
        UsageError: one of them does not exist.
    """
    report = scan(config.scan, is_strict=config.strict)
    if config.output is not None:
        is_sarif = config.output.suffix == ".sarif"
        write_json(config.output, to_sarif(report) if is_sarif else report.to_dict())
    return ScanResult(report, config.output)


def rule(id: str) -> Rule:
    """Return a rule of the scanner.

    Raises:
        UsageError: no such rule; near ones are named.
    """
    if id not in RULES:
        near = difflib.get_close_matches(id, RULES, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(RULES)}."
        raise UsageError(f"There is no rule {id!r}.", id="unknown-check", hint=hint)
    return RULES[id]
