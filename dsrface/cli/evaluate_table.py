"""The evaluation on a terminal: one table that fits 60 columns, then what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from dsrface.commands.evaluate.plain import plain_answer
from dsrface.commands.evaluate.result import RAW
from dsrface.config.catalogue import MAIN_PROTOCOL, PROTOCOLS
from dsrface.runtime.text import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from dsrface.commands.evaluate.result import Cell, EvaluateResult, Evaluation
    from dsrface.metrics.bootstrap import Estimate

_WIDE = 92
_ROOM_FOR_INTERVALS = 74  # columns that the table of thresholds needs with theirs


def render_evaluation(result: EvaluateResult, console: Console) -> None:
    """Print image quality, verification and the limits; the closing facts are the caller's.

    Args:
        result: From `commands.evaluate.run`.
        console: Where to; its width decides whether intervals are shown next to the figures of every column.
    """
    evaluation = result.evaluation
    console.print(_quality(evaluation))
    if evaluation.cells:
        console.print(_verification(evaluation, is_wide=console.width >= _WIDE))
        counts = evaluation.counts
        has_interval = any(cell.eer.low is not None for cell in evaluation.cells)
        text = counts_text(
            counts.persons, counts.genuine, counts.impostor, evaluation.cells, has_interval=has_interval
        )
        console.print(Text(f"{text}. {_protocols(evaluation)}", style="dim"))
    if evaluation.thresholds:
        console.print(_thresholds(evaluation, has_interval=console.width >= _ROOM_FOR_INTERVALS))
    if evaluation.matrix:
        console.print(_matrix(evaluation))
    for line in evaluation.details:
        console.print(point("-", line))
    for line in evaluation.limits:
        console.print(point("!", line, style="yellow"))
    if plain := plain_answer(evaluation):
        console.print(Text(plain, style="bold"))


def point(sign: str, text: str, *, style: str = "") -> Table:
    """Return a line of a list, the further lines of which stand below its text."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(Text(sign, style=style), Text(text, style=style))
    return grid


def counts_text(
    persons: int, genuine: int, impostor: int, cells: Sequence[Cell], *, has_interval: bool
) -> str:
    """Return what the figures come from, and what those signs mean that are there."""
    parts = [count_text(persons, "person")]
    if cells:
        parts.append(f"{genuine} genuine, {impostor} impostor pairs")
    if has_interval:
        parts.append("[low, high]: 95 % by person")
    if any(item.support == "weak" for cell in cells for item in cell.tars):
        parts.append("~ few pairs for this FAR")
    return "; ".join(parts)


def _matrix(evaluation: Evaluation) -> Table:
    columns = list(dict.fromkeys((cell.degradation, cell.size_px) for cell in evaluation.matrix))
    table = figures_table("PSNR gain over bicubic, dB: trained on (rows), tested on (columns)")
    table.add_column("network", overflow="fold")
    for number, (kind, size_px) in enumerate(columns):
        is_new = number == 0 or kind != columns[number - 1][0]
        heading = f"{kind if is_new else ''}\n{size_px} px"  # the kind once, or six columns are too wide
        table.add_column(heading, justify="right", no_wrap=True)
    for network in dict.fromkeys(cell.network for cell in evaluation.matrix):
        own = [cell for cell in evaluation.matrix if cell.network == network]
        row = [_plain(cell.gain_db, 1, 2, "+") for cell in own]
        table.add_row(f"{network} ({own[0].trained_on})", *row)
    return table


def _protocols(evaluation: Evaluation) -> str:
    shown = {cell.protocol for cell in evaluation.cells}
    return " ".join(f"{name}: {entry.meaning}." for name, entry in PROTOCOLS.items() if name in shown)


def _quality(evaluation: Evaluation) -> Table:
    table = figures_table(
        f"Image quality, {evaluation.vlr_size} -> {evaluation.high_size} px, {evaluation.split} split"
    )
    table.add_column("images")
    table.add_column("PSNR dB", justify="right")
    table.add_column("SSIM", justify="right")
    table.add_column("PSNR-Y dB", justify="right")
    for item in evaluation.quality:
        table.add_row(
            item.images, _figure(item.psnr_db, 1, 2), _figure(item.ssim, 1, 3), _plain(item.psnr_y_db, 1, 2)
        )
    gains = {item.metric: item.difference for item in evaluation.comparisons if item.protocol == "images"}
    if gains:
        shown = [_figure(gains[key], 1, digits, "+") for key, digits in (("psnr_db", 2), ("ssim", 3))]
        table.add_row("gain", *shown, _plain(gains["psnr_y_db"], 1, 2, "+"))
    return table


def _verification(evaluation: Evaluation, *, is_wide: bool) -> Table:
    far, reject_all = evaluation.lowest_far, evaluation.reject_all
    has_accuracy = reject_all is not None
    table = figures_table("Verification")
    table.add_column("images")
    table.add_column("recogniser")
    table.add_column("EER %", justify="right")
    table.add_column("AUC", justify="right")
    if far is not None:
        table.add_column(f"TAR % at FAR {far:g}" if is_wide else f"TAR@{far:g}", justify="right")
    if has_accuracy:
        table.add_column("acc %", justify="right")
    width = len(table.columns)
    for protocol in PROTOCOLS:
        cells = [cell for cell in evaluation.cells if cell.protocol == protocol]
        if not cells:
            continue
        table.add_row(Text(protocol, style="dim"), *[""] * (width - 1))
        for cell in cells:
            is_winner = protocol == MAIN_PROTOCOL and cell.name == evaluation.winner
            style = "bold" if is_winner else "dim" if cell.recogniser == RAW else None
            table.add_row(*_row(cell, far, has_accuracy=has_accuracy, is_wide=is_wide), style=style)
    chance = ["chance", "", "50", "0.5"] + ([f"{far * 100:g}"] if far is not None else [])
    table.add_row(*chance, *(["50"] if has_accuracy else []), style="dim")
    if reject_all is not None:
        blank = [""] * (width - 2)
        for name, share in (("reject all", reject_all), ("accept all", 1 - reject_all)):
            table.add_row(name, *blank, f"{share * 100:.1f}", style="dim")
    return table


def _thresholds(evaluation: Evaluation, *, has_interval: bool) -> Table:
    persons = count_text(evaluation.thresholds[0].chosen.num_persons, "validation person")
    table = figures_table(f"Thresholds, {MAIN_PROTOCOL}: chosen on {persons}, applied here")
    for name in ("images", "recogniser", "FAR %", "threshold", "FAR here %", "TAR here %"):
        table.add_column(name, justify="left" if name in {"images", "recogniser"} else "right")
    for item in evaluation.thresholds:
        rates = (percent(item.far), percent(item.tar))
        asked, score = f"{item.chosen.far * 100:g}", item.chosen.score
        shown = _plain(score, 1, 3)
        if has_interval and score.low is not None:
            shown += f" [{score.low:.2f}, {score.high:.2f}]"
        table.add_row(f" {item.images}", item.recogniser, asked, shown, *rates)
    return table


def _row(cell: Cell, far: float | None, *, has_accuracy: bool, is_wide: bool) -> list[str]:
    row = [f" {cell.images}", cell.recogniser]
    row.append(_figure(cell.eer, 100, 1) if is_wide else percent(cell.eer))
    row.append(_figure(cell.auc, 1, 3) if is_wide else _plain(cell.auc, 1, 3))
    if far is not None:
        item = next(item for item in cell.tars if item.far == far)
        text = _figure(item.tar, 100, 1) if is_wide else _plain(item.tar, 100, 1)
        row.append(("~" if item.support == "weak" else "") + text)
    if has_accuracy:
        row.append("-" if cell.accuracy is None else f"{cell.accuracy.mean * 100:.1f}")
    return row


def figures_table(title: str) -> Table:
    """Return an empty table that fits 60 columns."""
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )


def _plain(found: Estimate, factor: float, digits: int, sign: str = "") -> str:
    return "-" if found.value is None else f"{found.value * factor:{sign}.{digits}f}"


def percent(found: Estimate | None, *, has_interval: bool = True) -> str:
    """Return a rate in percent, its interval in whole numbers; `-` where there is none."""
    if found is None:
        return "-"
    text = _plain(found, 100, 1)
    if not has_interval or found.low is None or found.high is None:
        return text
    return f"{text} [{found.low * 100:.0f}, {found.high * 100:.0f}]"


def _figure(found: Estimate, factor: float, digits: int, sign: str = "") -> str:
    text = _plain(found, factor, digits, sign)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{found.low * factor:{sign}.{digits}f}, {found.high * factor:{sign}.{digits}f}]"
