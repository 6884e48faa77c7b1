"""Sheets of faces: a title above each column, a caption to the right of each row."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dsrface.data.decode import ImageU8
from dsrface.types import HIGH_SIZE_PX

_GAP_PX = 4
_BAND_PX = 18
_CHARACTER_PX = 7
_MOST_CAPTION_PX = 320
_SIZE = 11


def face_sheet(
    rows: Sequence[Sequence[ImageU8 | None]], titles: Sequence[str], captions: Sequence[str] = ()
) -> ImageU8:
    """Return a sheet of faces, each 112x112 with its pixels as squares.

    Args:
        rows: uint8 [S, S, 3] each, S at most 112; None leaves the place white.
        titles: Of the columns.
        captions: Of the rows; may be empty.
    """
    step = HIGH_SIZE_PX + _GAP_PX
    sheet = np.full((len(rows) * step + _GAP_PX, len(titles) * step + _GAP_PX, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, face in enumerate(row):
            if face is not None:
                top, left = _GAP_PX + y * step, _GAP_PX + x * step
                nearest = np.arange(HIGH_SIZE_PX) * face.shape[0] // HIGH_SIZE_PX
                sheet[top : top + HIGH_SIZE_PX, left : left + HIGH_SIZE_PX] = face[nearest][:, nearest]
    return labelled(sheet, titles, captions, step_px=step)


def drawable(text: str) -> str:
    """Return a text in the letters that Pillow's own font has: without accents, `?` for other scripts."""
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letters).encode("ascii", "replace").decode("ascii")


def labelled(sheet: ImageU8, titles: Sequence[str], captions: Sequence[str], *, step_px: int) -> ImageU8:
    """Return a sheet with words around it.

    Args:
        sheet: uint8 [H, W, 3], a face every `step_px` pixels both ways.
        titles: Of the columns.
        captions: Of the rows; the end of one that is too long is shown.
        step_px: From one face to the next.
    """
    captions = [drawable(text) for text in captions]
    longest = max((len(text) for text in captions), default=0)
    margin = min(_MOST_CAPTION_PX, longest * _CHARACTER_PX + _CHARACTER_PX if longest else 0)
    height, width = sheet.shape[:2]
    canvas = np.full((height + _BAND_PX, width + margin, 3), 255, np.uint8)
    canvas[_BAND_PX:, :width] = sheet
    image = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_SIZE)
    for column, text in enumerate(titles):
        draw.text((column * step_px + 4, 2), text, fill="black", font=font)
    most = max(0, margin // _CHARACTER_PX - 1)
    for row, text in enumerate(captions):
        shown = text if len(text) <= most else f"...{text[3 - most :]}"
        draw.text(
            (width + 4, _BAND_PX + row * step_px + step_px // 2 - _SIZE), shown, fill="black", font=font
        )
    return np.asarray(image)
