"""One image that shows what a data set holds: a row a person, the HR face and its VLR faces enlarged.

Native faces are there in one size only; the other places stay white.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsrface.data.decode import ImageU8, read_image
from dsrface.data.folders import HIGH_FOLDER, low_folder
from dsrface.data.sheets import labelled
from dsrface.types import HIGH_SIZE_PX

_GAP_PX = 4


def preview_sheet(root: Path, names: Sequence[str], sizes_px: Sequence[int]) -> ImageU8:
    """Return uint8 [H, W, 3]: for each image HR and then every VLR size, with its pixels as squares,
    under titles and with their names.

    Args:
        root: Folder with `hr_images` and `vlr_images_SxS`.
        names: Relative names of the images.
        sizes_px: VLR sizes.
    """
    step = HIGH_SIZE_PX + _GAP_PX
    shape = (len(names) * step + _GAP_PX, (len(sizes_px) + 1) * step + _GAP_PX, 3)
    sheet = np.full(shape, 255, np.uint8)
    for row, name in enumerate(names):
        paths = [root / HIGH_FOLDER / name, *(root / low_folder(size) / name for size in sizes_px)]
        for column, path in enumerate(paths):
            if not path.exists():
                continue
            face = read_image(path)
            top, left = _GAP_PX + row * step, _GAP_PX + column * step
            nearest = (np.arange(HIGH_SIZE_PX) * face.shape[0]) // HIGH_SIZE_PX
            sheet[top : top + HIGH_SIZE_PX, left : left + HIGH_SIZE_PX] = face[nearest][:, nearest]
    titles = [f"HR {HIGH_SIZE_PX} px", *(f"VLR {size} px" for size in sizes_px)]
    return labelled(sheet, titles, names, step_px=step)
