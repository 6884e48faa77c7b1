"""Images that a run leaves in samples/: rows of faces side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from dsrface.data.decode import write_png
from dsrface.data.sheets import labelled
from dsrface.types import HIGH_SIZE_PX

_GAP_PX = 4


def write_strips(path: Path, columns: Mapping[str, Tensor], captions: Sequence[str] = ()) -> None:
    """Write one row a sample, one column a kind; small images are enlarged by repeating pixels.

    Args:
        path: PNG to write.
        columns: By title, uint8 [N, S, S, 3] each, on the CPU, S at most 112.
        captions: Of the rows; may be empty.
    """
    enlarged = [_enlarged(column.numpy()) for column in columns.values()]
    num_rows, step = len(enlarged[0]), HIGH_SIZE_PX + _GAP_PX
    sheet = np.full((num_rows * step - _GAP_PX, len(columns) * step - _GAP_PX, 3), 255, np.uint8)
    for x, column in enumerate(enlarged):
        for y, image in enumerate(column):
            sheet[y * step : y * step + HIGH_SIZE_PX, x * step : x * step + HIGH_SIZE_PX] = image
    write_png(path, labelled(sheet, list(columns), captions, step_px=step))


def _enlarged(images: np.ndarray) -> np.ndarray:
    position = np.arange(HIGH_SIZE_PX) * images.shape[1] // HIGH_SIZE_PX
    return images[:, position][:, :, position]
