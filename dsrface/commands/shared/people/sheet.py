"""Sheets to look at: rows of faces with a line of text below each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dsrface.data.decode import ImageU8, write_png
from dsrface.data.sheets import drawable, labelled
from dsrface.runtime.files import remove_half_written

_SIDE_PX, _TEXT_PX, _GAP_PX = 112, 14, 6
_LETTERS = 18  # that fit below a face


@dataclass(frozen=True)
class Tile:
    """A face of a sheet.

    Args:
        image: uint8 [S, S, 3], any size; enlarged by repeating pixels, so that one sees how few there are.
        text: Below it.
    """

    image: ImageU8
    text: str


def write_sheet(path: Path, rows: Sequence[Sequence[Tile]], titles: Sequence[str]) -> None:
    """Write rows of tiles as a PNG.

    Args:
        path: File to write.
        rows: Of tiles, as many as each has.
        titles: Of the columns.
    """
    step_x, step_y = _SIDE_PX + _GAP_PX, _SIDE_PX + _TEXT_PX + _GAP_PX
    width = max(len(row) for row in rows) * step_x + _GAP_PX
    sheet = Image.new("RGB", (width, len(rows) * step_y + _GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            corner = (_GAP_PX + x * step_x, _GAP_PX + y * step_y)
            shown = Image.fromarray(tile.image).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.NEAREST)
            sheet.paste(shown, corner)
            text = drawable(tile.text)[:_LETTERS]
            draw.text((corner[0], corner[1] + _SIDE_PX + 1), text, fill="black")
    remove_half_written(path.parent, path.name)
    write_png(path, labelled(np.asarray(sheet), titles, (), step_px=step_x))
