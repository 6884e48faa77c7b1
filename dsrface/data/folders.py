"""The folders of a data set; free of torch, for the worker processes of `prepare` and for a first look."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dsrface.config.catalogue import BENCHMARKS
from dsrface.errors import DataError
from dsrface.runtime.command_line import quoted
from dsrface.types import SPLITS

DATASET_FILE = "dataset.json"
HIGH_FOLDER = "hr_images"
# Without a size in the name: how data sets that people already have name them.
PLAIN_LOW_FOLDER = "vlr_images"
PLAIN_OUTPUTS_FOLDER = "dsr_outputs"
_LOOKED_AT = 5000  # entries of an unknown folder; a benchmark may have millions
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


def published_command(path: Path) -> str:
    """Return the command that measures a folder in the layout of a published benchmark; empty for others."""
    entries = [
        entry for entry in itertools.islice(path.rglob("*"), _LOOKED_AT) if not entry.name.startswith(".")
    ]
    for name, benchmark in BENCHMARKS.items():
        signs = [entry for entry in entries if benchmark.sign and fnmatch.fnmatch(entry.name, benchmark.sign)]
        if signs:
            place = signs[0] if benchmark.is_file else path
            return f"dsrface evaluate {quoted(place)} --protocol {name} --vlr-size 16"
    return ""


def benchmark_of_folders(files: Iterable[str]) -> str:
    """Return the published benchmark whose folders, which are no persons, hold files; empty for none."""
    folders = {folder.name for file in files for folder in PurePosixPath(file).parents}
    for name, benchmark in BENCHMARKS.items():
        if benchmark.sign and fnmatch.filter(folders, benchmark.sign):
            return name
    return ""


def check_root(path: Path) -> None:
    """Make sure that a path looks like a data set.

    Raises:
        DataError: no folder, one split of a data set, or no HR images where a data set has them.
    """
    if not path.is_dir():
        raise DataError(
            "The data set does not exist." if not path.exists() else "The data set is not a folder.",
            id="no-data-set",
            where=path,
            hint="Make one with `dsrface prepare PHOTOS DATA`.",
        )
    full = path.resolve()
    if full.name in SPLITS and (full.parent / DATASET_FILE).is_file():
        raise DataError(
            f"This is the {full.name} split of a data set, not a data set.",
            id="split-of-data-set",
            where=path,
            hint=f"Name the data set: {full.parent}",
        )
    has_images = any(folder.is_dir() for folder in (path / HIGH_FOLDER, path / "train" / HIGH_FOLDER))
    if not has_images and not (path / DATASET_FILE).exists():
        near = sorted(file.parent for file in path.parent.glob(f"*/{DATASET_FILE}"))[:4]
        question = f"Did you mean {' or '.join(map(str, near))}?" if near else ""
        likely = published_command(path) or question
        raise DataError(
            f"There is no {HIGH_FOLDER} folder here or in train.",
            id="no-data-set",
            where=path,
            hint=likely + "\n" * bool(likely) + "Photos in folders per person become a data set with "
            "`dsrface prepare PHOTOS DATA`; a published benchmark is measured with `dsrface evaluate "
            "--protocol`.",
        )
