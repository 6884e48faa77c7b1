"""Show a doctor's report: colours and symbols on a terminal, plain ASCII in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dsrface.doctor.report import Finding, Report
from dsrface.runtime.text import printable

if TYPE_CHECKING:
    from rich.console import Console

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
_GRAVEST_FIRST = {"fail": 0, "error": 1, "warn": 2}
_NARROWEST = 40
_WIDEST = 110
_SHOWN_LINES = 8
_MANY_WORKERS = 100


def render_report(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print what needs attention, the lesson, and the settings to use; the verdict line is the caller's.

    Args:
        report: What was found.
        console: Where to; its width is respected.
        verbose: Also print what passed or was skipped.
    """
    is_plain = not console.is_terminal or console.no_color
    width = max(_NARROWEST, min(_WIDEST, console.width))
    shown = [check for check in report.checks if verbose or _needs_attention(check)]
    shown.sort(key=lambda check: _GRAVEST_FIRST.get(check.status, len(_GRAVEST_FIRST)))
    if not verbose:
        _print_facts(report, console, width)
    for check in shown:
        _print_check(check, console, width, is_plain=is_plain)
    if shown and not _needs_attention(shown[-1]):
        console.print()
    if report.lesson:
        _print_lesson(report.lesson, console, width)
    _print_recommendation(report, console, width)


def _needs_attention(check: Finding) -> bool:
    return (
        check.status in ("warn", "fail", "error") and check.id != "perf.recommend"
    )  # that one is at the end


def _print_facts(report: Report, console: Console, width: int) -> None:
    platform = report.platform
    facts = [f"Python {platform['python']}"]
    if platform["torch"]:
        facts.append(f"torch {platform['torch']}")
    facts += [
        f"{platform['start_method']} ({platform['start_method_source']})",
        f"{platform['cores']['effective']} cores",
    ]
    _print(console, ", ".join(facts), width, style="dim")
    built = report.check("ds.build")
    if report.target and built is not None and built.status == "pass":
        _print(console, f"{report.target}: {built.summary}", width, style="dim")
    console.print()


def _print_check(check: Finding, console: Console, width: int, *, is_plain: bool) -> None:
    mark = _WORDS[check.status] if is_plain else f"{_SYMBOLS[check.status]} {_WORDS[check.status]}"
    indent = " " * 6
    head = f"{mark:<6}{check.id}" if is_plain else f"{mark:<7}{check.id}"
    console.print(head, style=_STYLES[check.status], soft_wrap=True)
    _print(console, check.summary, width, indent=indent)
    if check.status not in ("warn", "fail", "error"):
        return
    _print_labelled(console, "where", check.where, width)
    _print_labelled(console, "matters", check.matters, width)
    _print_labelled(console, "fix", check.fix, width)
    console.print()


def _print_labelled(console: Console, label: str, text: str, width: int) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines[:_SHOWN_LINES]):
        first = f"      {label}: " if number == 0 else "        "
        _print(console, line, width, indent=first, rest="        ")
    if len(lines) > _SHOWN_LINES:
        console.print(f"        and {len(lines) - _SHOWN_LINES} more (--json has them all)")


def _print_lesson(lesson: Iterable[str], console: Console, width: int) -> None:
    console.print("A network in the data set: what workers would do", style="bold")
    for number, line in enumerate(lesson, start=1):
        _print(console, line, width, indent=f"  {number}. ", rest="     ")
    console.print()


def _print_recommendation(report: Report, console: Console, width: int) -> None:
    recommended = report.recommendation
    if recommended is None:
        return
    low, high = recommended["range"]
    span = f" ({low}-{high} cannot be told apart)" if low != high else ""
    console.print("Use", style="bold")
    _print(console, f"DataLoader(..., {recommended['flags']})", width, indent="  ", rest="    ", style="bold")
    _print(
        console, f"confidence {recommended['confidence']}{span}: {recommended['reason']}", width, indent="  "
    )
    tight = [f"{name} {most}" for name, most in recommended["caps"].items() if most < _MANY_WORKERS]
    if tight:
        _print(console, f"most workers by: {', '.join(tight)}", width, indent="  ")
    if recommended["measurements"]:
        seen = ", ".join(
            f"{window['num_workers']}: {window['items_per_s_median']:.0f} (+-{100 * window['mad']:.0f} %)"
            for window in recommended["measurements"]
        )
        _print(console, f"items/s by workers, measured: {seen}", width, indent="  ")
    elif recommended["num_workers"]:
        seen = ", ".join(f"{number}: {rate:.0f}" for number, rate in recommended["table"].items())
        _print(console, f"keeps a device busy up to items/s, by workers: {seen}", width, indent="  ")
    console.print()


def _print(
    console: Console,
    text: str,
    width: int,
    *,
    indent: str = "",
    rest: str | None = None,
    style: str | None = None,
) -> None:
    """Print a text wrapped to the width; long paths are never cut."""
    text = printable(text)
    if not console.is_terminal or console.no_color:
        text = text.encode("ascii", "replace").decode("ascii")
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines or [indent]:
        console.print(line, style=style, soft_wrap=True)
