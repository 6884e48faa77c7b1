"""Charts as inline SVG: no library, no script; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import NormalDist

from dsrface.commands.evaluate.findings import points
from dsrface.commands.evaluate.result import RAW, Cell, Comparison

_WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 44


def line_class(cell: Cell) -> str:
    """Return the CSS classes of a cell: colour by image, dashes by recogniser."""
    images = cell.images.lower()
    colour = "raw" if cell.recogniser == RAW else images
    return f"c-{colour} r-{cell.recogniser.split()[0]} i-{images}"


def roc_chart(cells: Sequence[Cell], *, num_impostor: int) -> str:
    """Return ROC curves over a logarithmic FAR axis, with chance and the region that the pairs cannot show.

    Args:
        cells: One curve each.
        num_impostor: Impostor pairs; below 3 / num_impostor a FAR is not measured.
    """
    height = 380
    decades = max(1, math.ceil(math.log10(max(num_impostor, 10)) - 1e-9))

    def x(far: float) -> float:
        share = 1 + math.log10(max(far, 10**-decades)) / decades
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(tar: float) -> float:
        return _TOP + (1 - tar) * (height - _TOP - _BOTTOM)

    parts = [_frame(height)]
    limit = x(min(1.0, 3 / num_impostor))
    parts.append(
        f'<rect class="unsure" x="{_LEFT}" y="{_TOP}" width="{limit - _LEFT:.1f}" '
        f'height="{height - _TOP - _BOTTOM}"/>'
    )
    if limit - _LEFT > 110:  # the words need that much room
        parts.append(_text(_LEFT + 6, _TOP + 16, "too few impostor pairs"))
    for step in range(decades + 1):
        far = 10.0 ** (step - decades)
        parts.append(_tick_x(x(far), height, f"{far:g}"))
    parts += [_tick_y(y(step / 5), f"{step * 20}") for step in range(6)]
    chance = [(10 ** (-decades * (1 - k / 60)), 10 ** (-decades * (1 - k / 60))) for k in range(61)]
    parts.append(_path([(x(a), y(b)) for a, b in chance], "c-chance r-chance"))
    for cell in cells:
        corners: list[tuple[float, float]] = []
        for far, tar in cell.roc:
            if corners:
                corners.append((x(far), corners[-1][1]))
            corners.append((x(far), y(tar)))
        parts.append(_path(corners, line_class(cell), title=cell.name))
    parts.append(_axis_titles(height, "false-accept rate (log scale)", "true-accept rate, %"))
    label = "ROC curves: " + ", ".join(cell.name for cell in cells)
    return _svg(_WIDTH, height, label, parts)


def det_chart(cells: Sequence[Cell], *, num_impostor: int) -> str:
    """Return detection error trade-off curves: misses over false accepts, both on a normal-deviate axis.

    Args:
        cells: One curve each.
        num_impostor: Impostor pairs; below 3 / num_impostor a rate is not drawn.
    """
    height, least = 380, max(3 / num_impostor, 1e-6)
    low, high = _deviate(min(least, 0.05)), _deviate(0.8)

    def share(rate: float) -> float:
        return (min(max(_deviate(rate), low), high) - low) / (high - low)

    def x(rate: float) -> float:
        return _LEFT + share(rate) * (_WIDTH - _LEFT - _RIGHT)

    def y(rate: float) -> float:
        return height - _BOTTOM - share(rate) * (height - _TOP - _BOTTOM)

    parts = [_frame(height)]
    for rate in (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6):
        if _deviate(rate) >= low:
            parts += [_tick_x(x(rate), height, f"{rate * 100:g}"), _tick_y(y(rate), f"{rate * 100:g}")]
    for cell in cells:
        corners = [(x(far), y(1 - tar)) for far, tar in cell.roc if far >= least]
        parts.append(_path(corners, line_class(cell), title=cell.name))
    parts.append(_axis_titles(height, "false accepts, %", "misses, %"))
    return _svg(_WIDTH, height, "DET curves: " + ", ".join(cell.name for cell in cells), parts)


def _deviate(rate: float) -> float:
    return NormalDist().inv_cdf(min(max(rate, 1e-9), 1 - 1e-9))


def histogram_chart(cell: Cell, *, low: float, high: float) -> str:
    """Return the score histograms of genuine and impostor pairs, each scaled to its own number of pairs.

    Args:
        cell: Whose scores.
        low: Left end of the axis, the same for all charts that are compared.
        high: Right end.
    """
    width, height, left, bottom, top = 312, 166, 10, 42, 8
    found = cell.histogram
    span = max(high - low, 1e-9)

    def x(score: float) -> float:
        return left + (score - low) / span * (width - 2 * left)

    size = (found.high - found.low) / len(found.genuine)
    # Densities, so that charts over other ranges of scores stay comparable.
    top_density = max(*found.genuine, *found.impostor) or 1.0
    parts = []
    for values, name in ((found.impostor, "impostor"), (found.genuine, "genuine")):
        corners = [(x(found.low), float(height - bottom))]
        for number, value in enumerate(values):
            level = height - bottom - value / top_density * (height - bottom - top)
            corners.append((x(found.low + number * size), level))
            corners.append((x(found.low + (number + 1) * size), level))
        corners.append((x(found.high), float(height - bottom)))
        parts.append(_path(corners, f"h-{name}", title=f"{name} pairs", close=True))
    base = height - bottom
    parts.append(f'<line class="axis" x1="{left}" x2="{width - left}" y1="{base}" y2="{base}"/>')
    for share in (0.0, 0.5, 1.0):
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        score = low + share * span
        parts.append(_text(x(score), height - 25, f"{score:.2f}", anchor=anchor))
    parts.append(_text(width / 2, height - 6, "cosine", anchor="middle"))
    return _svg(width, height, f"Scores of genuine and impostor pairs, {cell.name}", parts)


def difference_chart(comparisons: Sequence[Comparison]) -> str:
    """Return one line a difference in EER: a dot, its interval, and the line of no difference."""
    row, left, right, top, bottom = 68, 20, 20, 8, 44
    height = top + bottom + row * len(comparisons)
    ends = [
        abs(end)
        for item in comparisons
        for end in (item.difference.value, item.difference.low, item.difference.high)
        if end is not None
    ]
    reach = _round_up(max([*ends, 0.001]))

    def x(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (_WIDTH - left - right)

    parts = []
    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        style = "zero" if share == 0 else "grid"
        place = x(share * reach)
        parts.append(_rule(style, place, top, height - bottom))
        parts.append(_text(place, height - bottom + 16, f"{share * reach * 100:+.3g}", anchor="middle"))
    for number, item in enumerate(comparisons):
        found, y = item.difference, top + row * number + 52
        if found.value is None:
            continue
        style = {"better": "good", "worse": "bad"}.get(item.verdict, "open")
        parts.append(_text(left, y - 34, f"{item.first} - {item.second}"))  # two lines: a phone's letters
        parts.append(_text(left, y - 14, f"{points(found)}, {item.verdict}"))  # are large in this chart
        if found.low is not None and found.high is not None:
            ends_at = f'x1="{x(found.low):.1f}" x2="{x(found.high):.1f}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="whisker {style}" {ends_at}/>')
        parts.append(f'<circle class="dot {style}" cx="{x(found.value):.1f}" cy="{y}" r="5"/>')
    foot = height - 6
    parts.append(_text(left, foot, "\N{LEFTWARDS ARROW} fewer errors"))
    parts.append(_text(_WIDTH / 2, foot, "difference in EER, points", anchor="middle"))
    parts.append(_text(_WIDTH - right, foot, "more errors \N{RIGHTWARDS ARROW}", anchor="end"))
    return _svg(_WIDTH, height, "Differences in equal error rate with 95 % intervals", parts)


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    words = escape(label, quote=True)
    return (
        f'<svg role="img" aria-label="{words}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
        f"<title>{words}</title>{''.join(parts)}</svg>"
    )


def _rule(style: str, place: float, top: float, bottom: float) -> str:
    return f'<line class="{style}" x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{bottom}"/>'


def _frame(height: int) -> str:
    return (
        f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" '
        f'height="{height - _TOP - _BOTTOM}"/>'
    )


def _tick_x(place: float, height: int, text: str) -> str:
    return (
        f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
        + _text(place, height - _BOTTOM + 16, text, anchor="middle")
    )


def _tick_y(place: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
        + _text(_LEFT - 7, place + 4, text, anchor="end")
    )


def _axis_titles(height: int, bottom: str, left: str) -> str:
    middle = _TOP + (height - _TOP - _BOTTOM) / 2
    turned = f'<g transform="translate(14 {middle}) rotate(-90)">{_text(0, 0, left, anchor="middle")}</g>'
    return _text((_LEFT + _WIDTH - _RIGHT) / 2, height - 8, bottom, anchor="middle") + turned


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text class="small" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _path(corners: Sequence[tuple[float, float]], style: str, *, title: str = "", close: bool = False) -> str:
    if not corners:
        return ""
    words = "L".join(f"{a:.1f} {b:.1f}" for a, b in corners)
    inner = f"<title>{escape(title)}</title>" if title else ""
    return f'<path class="{style}" d="M{words}{"Z" if close else ""}">{inner}</path>'


def _round_up(value: float) -> float:
    scale: float = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1.0, 2.0, 4.0, 5.0, 10.0) if step * scale >= value * (1 - 1e-9))
