"""`dsrface doctor --html FILE`: the report as a page that holds everything, for a browser or an e-mail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from dsrface.commands.shared.markup import document, note, row, section, table
from dsrface.doctor.report import NEED_ATTENTION, Finding, Report
from dsrface.doctor.report.groups import GROUPS, grouped, headline
from dsrface.doctor.sizing.account import confidence_line
from dsrface.runtime.command_line import command_line
from dsrface.runtime.files import write_text
from dsrface.runtime.text import without_addresses

_ARROW = " -> "
_WORDS = {
    "pass": "ok",
    "info": "ok",
    "warn": "warning",
    "fail": "failure",
    "skip": "skipped",
    "error": "error",
}


def write_page(path: Path, reports: Iterable[tuple[str, Report]]) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        reports: A heading, which may be empty, and the report below it.
    """
    write_text(path, render(list(reports), command=command_line()))


def render(reports: Sequence[tuple[str, Report]], *, command: str) -> str:
    """Return the page as HTML; `command` is what was called, to repeat it."""
    sections = []
    for heading, report in reports:
        sections += [_head(heading, report), *_groups(report), _lesson(report), _all_checks(report)]
    sections.append(_method(reports[0][1], command))
    return document(f"dsrface doctor, {reports[0][1].target or 'this machine'}", sections)


def _head(heading: str, report: Report) -> str:
    target = report.target or "this machine"
    use = report.loader_line()
    copied = f'<pre class="copy"><code>{escape(use)}</code></pre>' if use else ""
    lines = "".join(f"<li>{_text(line)}</li>" for line in heading.splitlines())
    return (
        '<header><p class="kicker">dsrface doctor</p>'
        f'<p class="plain">{_text(target)}: {_text(report.advice())}.</p>'
        f"<h1>{_text(report.verdict_line().partition(_ARROW)[0])}</h1>"
        + (f'<ul class="details">{lines}</ul>' if lines else "")
        + f"{copied}</header>"
    )


def _groups(report: Report) -> Iterable[str]:
    for group, checks in grouped(report.checks).items():
        body = f"<p>{_text(headline(group, checks))}</p>"
        body += "".join(_finding(check) for check in checks if check.status in NEED_ATTENTION)
        if group == "speed":
            body += _sizing(report)
        yield section(GROUPS[group], body)


def _finding(check: Finding) -> str:
    parts = [check.where, check.matters, f"To do: {check.fix}" if check.fix else ""]
    body = "".join(f"<p>{_text(part)}</p>" for part in parts if part)
    status = f'<span class="status">{_WORDS[check.status]}</span>'
    head = f"<h3>{status}{_text(check.summary)} <code>{escape(check.id)}</code></h3>"
    return f'<div class="finding {check.status}">{head}{body}</div>'


def _sizing(report: Report) -> str:
    chosen = report.recommendation
    if chosen is None or not (confidence := confidence_line(chosen)):
        return ""
    head = ["Workers", "Items/s"]
    rows = [row([str(number), f"{rate:,.0f}"]) for number, rate in chosen["table"].items()]
    title = "Items per second by workers, as the model has them"
    if chosen["measurements"]:
        head, title = ["Workers", "Items/s, median", "Spread %"], "Items per second by workers, measured"
        rows = [
            row(
                [
                    str(window["num_workers"]),
                    f"{window['items_per_s_median']:,.0f}",
                    f"{100 * window['mad']:.0f}",
                ]
            )
            for window in chosen["measurements"]
        ]
    return note(f"{escape(confidence.capitalize())}.") + table(title, head, rows, style="narrow")


def _lesson(report: Report) -> str:
    if not report.lesson:
        return ""
    lines = "".join(f"<li>{_text(line)}</li>" for line in report.lesson)
    return section("A network in the data set: what workers would do", f"<ol>{lines}</ol>")


def _all_checks(report: Report) -> str:
    rows = [
        row([f"<code>{escape(check.id)}</code>", _WORDS[check.status], _text(check.summary)])
        for check in report.checks
    ]
    shown = table("Every check", ["Check", "Result", "What was found"], rows, style="method")
    return f"<details><summary>All {len(rows)} checks</summary>{shown}</details>"


def _method(report: Report, command: str) -> str:
    platform = report.platform
    facts = [
        ("Again", f"<code>{escape(command)}</code>" if command else ""),
        ("dsrface", _text(report.version)),
        ("torch", _text(platform["torch"])),
        ("Python", _text(platform["python"])),
        ("Start method", _text(f"{platform['start_method']} ({platform['start_method_source']})")),
    ]
    rows = [row([name, value]) for name, value in facts if value]
    return section("How this was made", table("How this was made", ["What", "Value"], rows, style="method"))


def _text(text: str) -> str:
    return escape(without_addresses(text))
