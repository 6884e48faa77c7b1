"""Findings as SARIF 2.1.0, which code hosts show next to the lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsrface import __version__
from dsrface.doctor.scan.rule import Finding, Rule
from dsrface.doctor.scan.rules import RULES
from dsrface.doctor.scan.scanner import ScanReport

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(report: ScanReport) -> dict[str, Any]:
    """Return a report as a SARIF log with one run."""
    driver = {"name": "dsrface doctor", "version": __version__, "rules": [_rule(r) for r in RULES.values()]}
    results = [_result(finding) for finding in report.findings]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.fix}\n\nFor example:\n\n{rule.example}"},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(finding: Finding) -> dict[str, Any]:
    path = Path(finding.path)
    uri = path.absolute().as_uri() if path.is_absolute() else finding.path
    region = {"startLine": finding.line, "startColumn": finding.column}
    message = finding.message
    if finding.cell:  # SARIF knows lines of the file only, which is JSON
        region, message = {"startLine": 1}, f"cell {finding.cell}, line {finding.line}: {message}"
    return {
        "ruleId": finding.rule,
        "level": finding.level,
        "message": {"text": message},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
    }
