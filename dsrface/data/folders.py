"""Names of the image folders of a data set; free of torch, for the worker processes of `prepare`."""

from __future__ import annotations

import re

HIGH_FOLDER = "hr_images"
# Without a size in the name: how data sets that people already have name them.
PLAIN_LOW_FOLDER = "vlr_images"
PLAIN_OUTPUTS_FOLDER = "dsr_outputs"
_LOW = re.compile(rf"{PLAIN_LOW_FOLDER}_(\d+)x\1")
_ANY = re.compile(rf"{HIGH_FOLDER}|({PLAIN_LOW_FOLDER}|{PLAIN_OUTPUTS_FOLDER})(_\d+x\d+)?")


def low_folder(size_px: int) -> str:
    """Return the name of the folder of VLR faces of a size, in pixels."""
    return f"{PLAIN_LOW_FOLDER}_{size_px}x{size_px}"


def outputs_folder(size_px: int) -> str:
    """Return the name of the folder of what a DSR makes of the VLR faces of a size, in pixels."""
    return f"{PLAIN_OUTPUTS_FOLDER}_{size_px}x{size_px}"


def low_size_px(name: str) -> int | None:
    """Return the size that the name of a folder of VLR faces says, or None when it is another folder."""
    match = _LOW.fullmatch(name)
    return int(match[1]) if match else None


def is_data_folder(name: str) -> bool:
    """Return whether a folder's name is one of a data set's image folders."""
    return _ANY.fullmatch(name) is not None
