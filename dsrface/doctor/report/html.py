"""A report as HTML, which notebooks show."""

from __future__ import annotations

from html import escape

from dsrface.doctor.report import Finding, Report
from dsrface.doctor.sizing.account import parts_line, what_if_line
from dsrface.runtime.text import without_addresses

_COLOURS = {"fail": "#b3261e", "error": "#8e24aa", "warn": "#b26a00"}


def report_html(report: Report) -> str:
    """Return what needs attention, the loader to use and the verdict."""
    findings = [_finding(check) for check in report.checks if check.status in _COLOURS]
    use = ""
    if (recommended := report.recommendation) is not None:
        lines = [str(recommended["reason"]), parts_line(recommended), what_if_line(recommended["what_if"])]
        reasons = "<br>".join(escape(line) for line in lines if line)
        use = f"<p>Use <code>{escape(report.loader_line())}</code><br>{reasons}</p>"
    ending = f"<p><b>{escape(report.target)}: {escape(report.verdict_line())}</b></p>"
    return "".join([*findings, use, ending])


def _finding(check: Finding) -> str:
    name = f'<b style="color:{_COLOURS[check.status]}">{check.status.upper()} {escape(check.id)}</b>'
    texts = {"": check.summary, "where": check.where, "matters": check.matters, "fix": check.fix}
    lines = [
        (f"<i>{label}:</i> " if label else f"{name} ") + escape(without_addresses(text))
        for label, text in texts.items()
        if text
    ]
    return f"<p>{'<br>'.join(lines)}</p>".replace("\n", "<br>")
