"""Pages of HTML that hold everything, and their pieces, for screen readers and narrow screens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from urllib.parse import quote

from dsrface.runtime.text import csv_text

_NOTHING_FROM_OUTSIDE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, sections: Sequence[str]) -> str:
    """Return a whole page, in the style of `page.css`; empty sections are left out."""
    style = _style("page.css") + _style("chart.css")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_FROM_OUTSIDE}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def section(title: str, body: str) -> str:
    """Return a section under a heading."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def note(text: str) -> str:
    """Return a paragraph in small print; `text` is HTML."""
    return f'<p class="note">{text}</p>'


def table(label: str, head: Sequence[str], rows: Sequence[str], *, style: str = "") -> str:
    """Return a table that scrolls sideways by itself, also by keyboard.

    Args:
        label: What it shows, for screen readers.
        head: Titles of the columns, HTML.
        rows: From `row`.
        style: Its class.
    """
    titles = "".join(f'<th scope="col">{name}</th>' for name in head)
    return scrolling(
        label,
        f'<table class="{style}"><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table>',
    )


def table_section(
    title: str, head: Sequence[str], rows: Sequence[str], words: str, *, style: str = ""
) -> str:
    """Return a section that is a table and a note below it; `words` is HTML."""
    return section(title, table(title, head, rows, style=style) + note(words))


def scrolling(label: str, body: str) -> str:
    """Return a region that scrolls sideways by itself, also by keyboard."""
    words = escape(label, quote=True)
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{words}">{body}</div>'


def row(cells: Sequence[str], *, style: str = "") -> str:
    """Return a row whose first cell names it; where that is empty, the second does, over both columns."""
    span = ' colspan="2"' if not cells[0] else ""
    name, *values = cells if cells[0] else cells[1:]
    head = f'<th scope="row"{span}>{name}</th>'
    return f'<tr class="{style}">{head}{"".join(f"<td>{value}</td>" for value in values)}</tr>'


def download(name: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a link that saves a table as CSV; the file is in the page."""
    data = quote(csv_text([head, *rows]))
    href = f"data:text/csv;charset=utf-8,{data}"
    return f'<p class="note"><a download="{name}" href="{href}">{name}</a></p>'


def download_svg(name: str, svg: str) -> str:
    """Return a link that saves a chart as a file of its own, in the colours of the light page."""
    colours = re.search(r":root \{.*?\}", _style("page.css"), re.DOTALL)
    assert colours is not None
    style = f"<style>{colours[0]}{_style('chart.css')}</style>"
    alone = re.sub("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', svg, count=1)
    href = f"data:image/svg+xml;charset=utf-8,{quote(re.sub('>', f'>{style}', alone, count=1))}"
    return f'<p class="note"><a download="{name}" href="{href}">{name}</a></p>'


def readable(text: str) -> str:
    """Return a name that a browser can show; bytes that are no Unicode become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _style(name: str) -> str:
    return (resources.files("dsrface.commands.shared") / name).read_text(encoding="utf-8")
