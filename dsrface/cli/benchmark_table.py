"""The figures of a benchmark on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from dsrface.cli.evaluate_table import counts_text, figures_table, percent, point
from dsrface.commands.evaluate.result import RAW
from dsrface.types import HIGH_SIZE_PX

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dsrface.commands.evaluate.benchmark.result import BenchmarkResult


_WIDE = 110


def render_benchmark(result: BenchmarkResult, console: Console) -> None:
    """Print searches, verification and limits; the closing facts are the caller's."""
    if result.searches:
        console.print(_searches(result))
    if result.cells:
        console.print(_cells(result, is_wide=console.width >= _WIDE))
    for line in _legend(result):
        console.print(Text(line, style="dim"))
    for line in result.limits:
        console.print(point("!", line, style="yellow"))


def _legend(result: BenchmarkResult) -> list[str]:
    """Return what the figures come from, and what the signs mean that are there."""
    rates = [rate for item in result.searches for rate in (*item.ranks.values(), *item.tpirs.values())]
    rates += [cell.eer for cell in result.cells]
    has_interval = any(rate.low is not None for rate in rates)
    pairs = (result.num_genuine, result.num_impostor)
    counts = counts_text(result.num_persons, *pairs, result.cells, has_interval=has_interval)
    if result.cells and any(item.support == "none" for item in result.cells[0].tars):
        counts += "; left out: TAR at a FAR for which there are fewer than 3 / FAR impostor pairs"
    if not result.native_px:
        return [counts]
    given = ", ".join(
        f"{number} at {side} px" for side, number in result.native_px.items() if side != HIGH_SIZE_PX
    )
    parts = [f"{given} through the DSR"] if given else []
    if HIGH_SIZE_PX in result.native_px:
        parts.append(f"{result.native_px[HIGH_SIZE_PX]} nearer to {HIGH_SIZE_PX} px, without it")
    return [counts, f"native faces: {'; '.join(parts)}"]


def _searches(result: BenchmarkResult) -> Table:
    ranks = sorted({rank for item in result.searches for rank in item.ranks})
    fpirs = sorted({fpir for item in result.searches for fpir in item.tpirs}, reverse=True)
    table = figures_table(f"Identification, {_faces(result)}")
    table.add_column("images")
    table.add_column("recogniser")
    for rank in ranks:
        table.add_column(f"rank {rank} %", justify="right")
    for fpir in fpirs:
        table.add_column(f"TPIR@{fpir:g}", justify="right")
    title = None
    for item in result.searches:
        if item.search != title:
            title = item.search
            unknown = f", {item.num_unknown} unknown" if item.num_unknown else ""
            counts = f"{item.num_known} probes{unknown}, gallery {item.num_gallery}"
            head = f"{title}: {counts}" if title else counts
            table.add_row(Text(head, style="dim"), *[""] * (1 + len(ranks) + len(fpirs)))
        row = [f" {item.images}", item.recogniser]
        row += [percent(item.ranks.get(rank)) for rank in ranks]
        row += [percent(item.tpirs.get(fpir)) for fpir in fpirs]
        table.add_row(*row, style="dim" if item.recogniser == RAW else None)
    return table


def _cells(result: BenchmarkResult, *, is_wide: bool) -> Table:
    given = {item.far for cell in result.cells for item in cell.tars if item.support != "none"}
    fars = [item.far for item in result.cells[0].tars if item.far in given]
    has_accuracy = any(cell.accuracy is not None for cell in result.cells)
    table = figures_table(f"Verification, {_faces(result)}")
    for name in ("pairs", "images", "recogniser"):
        table.add_column(name)
    table.add_column("EER %", justify="right")
    for far in fars:
        table.add_column(f"TAR@{far:g}", justify="right")
    if has_accuracy:
        table.add_column("acc %", justify="right")
    for cell in result.cells:
        row = [cell.protocol, cell.images, cell.recogniser, percent(cell.eer)]
        row += [
            ("~" if item.support == "weak" else "") + percent(item.tar, has_interval=is_wide)
            for item in cell.tars
            if item.far in given
        ]
        if has_accuracy:
            row.append("-" if cell.accuracy is None else f"{cell.accuracy.mean * 100:.2f}")
        table.add_row(*row, style="dim" if cell.recogniser == RAW else None)
    return table


def _faces(result: BenchmarkResult) -> str:
    size = "" if result.vlr_size is None else f", {result.vlr_size} px"
    return result.protocol + size + (", mirrored faces added" if result.settings.get("flip") else "")
