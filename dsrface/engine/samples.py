"""Images that a run leaves in samples/: rows of faces side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from dsrface.data.decode import write_png
from dsrface.data.sheets import face_sheet


def write_strips(
    path: Path, columns: Mapping[str, Sequence[Tensor] | Tensor], captions: Sequence[str] = ()
) -> None:
    """Write one row a sample, one column a kind; small images are enlarged by repeating pixels.

    Args:
        path: PNG to write.
        columns: By title, uint8 [N, S, S, 3] each or N of [S, S, 3], on the CPU, S at most 112.
        captions: Of the rows; may be empty.
    """
    rows = list(zip(*([image.numpy() for image in column] for column in columns.values()), strict=True))
    write_png(path, face_sheet(rows, list(columns), captions))
