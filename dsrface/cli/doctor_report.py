"""Show a doctor's findings in groups: colours and symbols on a terminal, plain ASCII in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dsrface.doctor.report import NEED_ATTENTION, Finding, Report
from dsrface.doctor.report.groups import GROUPS, grouped, headline
from dsrface.doctor.sizing.account import confidence_line, parts_line, what_if_line
from dsrface.runtime.text import figure_text, printable, without_addresses

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WORDS = {"pass": "ok", "info": "info", "warn": "warn", "fail": "FAIL", "skip": "skip", "error": "ERROR"}
_STYLES = {
    "pass": "green",
    "info": "cyan",
    "warn": "yellow",
    "fail": "bold red",
    "skip": "dim",
    "error": "bold magenta",
}
_SYMBOLS = {"pass": "✓", "info": "·", "warn": "!", "fail": "✗", "skip": "-", "error": "?"}
_NARROWEST = 40
_WIDEST = 110
_SHOWN_LINES = 8
_MANY_WORKERS = 100


def render_report(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print the groups, the lesson, and the line to copy; the verdict is the caller's.

    Args:
        report: What was found.
        console: Where to; its width is respected.
        verbose: Also print what passed or was skipped.
    """
    page = Page(console)
    for group, checks in grouped(report.checks).items():
        if verbose or _says_something(group, checks):
            page.group(group, checks, verbose=verbose)
        if group == "speed" and report.recommendation is not None:
            page.sizing(report.recommendation, verbose=verbose)
    page.blank()
    if report.lesson:
        page.lesson(report.lesson)
    if report.recommendation is not None:
        page.copyable(report.loader_line())
    for line in page.lines:
        console.print(line, soft_wrap=True)


def lines_so_far(checks: Iterable[Finding], console: Console) -> list[Text]:
    """Return the groups of an examination that goes on, as lines of the console's width."""
    page = Page(console)
    for group, members in grouped(checks).items():
        if _says_something(group, members):
            page.group(group, members)
    return page.lines


def _says_something(group: str, checks: list[Finding]) -> bool:
    return bool(headline(group, checks)) or checks[0].status in NEED_ATTENTION


class Page:
    """Lines of a report.

    Args:
        console: Its width and colours are respected.
    """

    def __init__(self, console: Console) -> None:
        self.lines: list[Text] = []
        self.is_plain = not console.is_terminal or console.no_color
        self.width = max(_NARROWEST, min(_WIDEST, console.width))

    def group(self, group: str, checks: list[Finding], *, verbose: bool = False) -> None:
        """Add a group: how it is in one line, then what needs attention, or every check of it."""
        worst = checks[0].status
        mark = self._mark("pass" if worst == "info" else worst)
        first = f"{mark}{GROUPS[group]:<9} "
        self.text(headline(group, checks), indent=first, rest=" " * len(first), style=_STYLES[worst])
        for check in checks:
            if check.id != "perf.recommend" and (verbose or check.status in NEED_ATTENTION):
                self.check(check)

    def check(self, check: Finding) -> None:
        """Add a check: what was found; of a fault also where, why it matters and how to fix it."""
        first = f"  {self._mark(check.status)}{check.id}  "
        self.text(check.summary, indent=first, rest=" " * 6, style=_STYLES[check.status])
        if check.status in NEED_ATTENTION:
            self._lines(check.where, "")
            self._lines(check.matters, "")
            self._lines(check.fix, "-> ")

    def sizing(self, recommended: Mapping[str, Any], *, verbose: bool) -> None:
        """Add what the recommendation rests on."""
        indent = " " * 4
        if confidence := confidence_line(recommended):
            self.text(confidence, indent=indent)
        if recommended["measurements"]:
            seen = ", ".join(
                f"{window['num_workers']}: {figure_text(window['items_per_s_median'])} "
                f"(+-{100 * window['mad']:.0f} %)"
                for window in recommended["measurements"]
            )
            self.text(f"items/s by workers, measured: {seen}", indent=indent)
        elif recommended["num_workers"]:
            seen = ", ".join(
                f"{number}: {figure_text(rate)}" for number, rate in recommended["table"].items()
            )
            self.text(f"keeps a device busy up to items/s, by workers: {seen}", indent=indent)
        if recommended["num_workers"] or verbose:  # else speed is not the question
            if parts := parts_line(recommended):
                self.text(parts, indent=indent, rest=indent + "  ")
            self.text(what_if_line(recommended["what_if"]), indent=indent, rest=indent + "  ")
        tight = [f"{name} {most}" for name, most in recommended["caps"].items() if most < _MANY_WORKERS]
        if tight and verbose:
            self.text(f"worker limits: {', '.join(tight)}", indent=indent)

    def lesson(self, lesson: Iterable[str]) -> None:
        """Add the lines that teach the classic case."""
        self.text("A network in the data set: what workers would do", style="bold")
        for number, line in enumerate(lesson, start=1):
            self.text(line, indent=f"  {number}. ", rest="     ")
        self.blank()

    def copyable(self, line: str) -> None:
        """Add a line that is never wrapped, with empty lines around it."""
        from rich.text import Text

        self.lines += [Text(f"    {printable(line)}", style="bold"), Text("")]

    def blank(self) -> None:
        """Add an empty line."""
        self.text("")

    def text(self, text: str, *, indent: str = "", rest: str | None = None, style: str = "") -> None:
        """Add a text wrapped to the width; long paths are never cut.

        Args:
            text: What a user's code may have written, too.
            indent: Of the first line.
            rest: Of the others; as the first when not given.
            style: Of the indent, or of everything when it is blank.
        """
        from rich.text import Text

        text = without_addresses(printable(text))
        if self.is_plain:
            text = text.encode("ascii", "replace").decode("ascii")
        marked = bool(indent.strip())
        lines = textwrap.wrap(
            text,
            self.width,
            initial_indent=indent,
            subsequent_indent=indent if rest is None else rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(lines or [indent.rstrip()]):
            shown = Text(line, style="" if marked else style)
            if marked and number == 0:
                shown.stylize(style, 0, len(indent))
            self.lines.append(shown)

    def _mark(self, status: str) -> str:
        return f"{_WORDS[status]:<6}" if self.is_plain else f"{_SYMBOLS[status]} "

    def _lines(self, text: str, arrow: str) -> None:
        lines = [line for line in text.splitlines() if line.strip()]
        for line in lines[:_SHOWN_LINES]:
            self.text(line, indent=f"      {arrow}", rest="        ")
        if len(lines) > _SHOWN_LINES:
            self.text(f"and {len(lines) - _SHOWN_LINES} more (--json has them all)", indent=" " * 6)
