"""A report as HTML, which notebooks show."""

from __future__ import annotations

from html import escape

from dsrface.doctor.report import Finding, Report
from dsrface.doctor.sizing.account import parts_line
from dsrface.doctor.sizing.what_if import what_if_line

_COLOURS = {"fail": "#b3261e", "error": "#8e24aa", "warn": "#b26a00"}


def report_html(report: Report) -> str:
    """Return what needs attention, the settings to use and the verdict."""
    findings = [_finding(check) for check in report.checks if check.status in _COLOURS]
    use = ""
    if report.recommendation is not None:
        lines = [str(report.recommendation["reason"]), parts_line(report.recommendation)]
        lines.append(what_if_line(report.recommendation["what_if"]))
        reasons = "<br>".join(escape(line) for line in lines if line)
        use = (
            f"<p>Use <code>DataLoader(..., {escape(report.recommendation['flags'])})</code><br>{reasons}</p>"
        )
    verdict = f"<p><b>{escape(report.target)}: {escape(report.verdict_line())}</b></p>"
    return "".join([*findings, use, verdict])


def _finding(check: Finding) -> str:
    head = f'<b style="color:{_COLOURS[check.status]}">{check.status.upper()} {escape(check.id)}</b>'
    parts = [f"{head} {escape(check.summary)}"]
    for label, text in (("where", check.where), ("matters", check.matters), ("fix", check.fix)):
        if text:
            parts.append(f"<i>{label}:</i> {escape(text)}".replace("\n", "<br>"))
    return f"<p>{'<br>'.join(parts)}</p>"
