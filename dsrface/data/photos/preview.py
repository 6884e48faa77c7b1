"""One image that shows what a data set holds: a row a person, the HR face and its VLR faces enlarged.

Native faces are there in one size only; the other places stay white.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsrface.data.decode import ImageU8, read_image
from dsrface.data.folders import HIGH_FOLDER, low_folder
from dsrface.data.sheets import face_sheet


def preview_sheet(root: Path, names: Sequence[str], sizes_px: Sequence[int], high_px: int) -> ImageU8:
    """Return uint8 [H, W, 3]: for each image HR and then every VLR size, with its pixels as squares,
    under titles and with their names.

    Args:
        root: Folder with `hr_images` and `vlr_images_SxS`.
        names: Relative names of the images.
        sizes_px: VLR sizes.
        high_px: Side of the HR faces.
    """
    folders = [root / HIGH_FOLDER, *(root / low_folder(size) for size in sizes_px)]
    paths = [[folder / name for folder in folders] for name in names]
    rows = [[read_image(path) if path.exists() else None for path in row] for row in paths]
    return face_sheet(rows, [f"HR {high_px} px", *(f"VLR {size} px" for size in sizes_px)], names)
