"""A report as HTML, which notebooks show."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from dsrface.doctor.sizing.account import parts_line, what_if_line

_COLOURS = {"fail": "#b3261e", "error": "#8e24aa", "warn": "#b26a00"}


def report_html(report: Mapping[str, Any], *, verdict: str) -> str:
    """Return what needs attention, the settings to use and the verdict.

    Args:
        report: The document that `--json` prints.
        verdict: The verdict in one line.
    """
    findings = [_finding(check) for check in report["checks"] if check["status"] in _COLOURS]
    use = ""
    recommended = report["recommendation"]
    if recommended is not None:
        lines = [str(recommended["reason"]), parts_line(recommended)]
        lines.append(what_if_line(recommended["what_if"]))
        reasons = "<br>".join(escape(line) for line in lines if line)
        use = f"<p>Use <code>DataLoader(..., {escape(recommended['flags'])})</code><br>{reasons}</p>"
    ending = f"<p><b>{escape(report['target'])}: {escape(verdict)}</b></p>"
    return "".join([*findings, use, ending])


def _finding(check: Mapping[str, Any]) -> str:
    head = f'<b style="color:{_COLOURS[check["status"]]}">{check["status"].upper()} {escape(check["id"])}</b>'
    parts = [f"{head} {escape(check['summary'])}"]
    labels = [label for label in ("where", "matters", "fix") if check[label]]
    parts += [f"<i>{label}:</i> {escape(check[label])}".replace("\n", "<br>") for label in labels]
    return f"<p>{'<br>'.join(parts)}</p>"
