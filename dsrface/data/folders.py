"""The folders of a data set and the names in them; free of torch, for `prepare` and for a first look."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeInt, PositiveInt, ValidationError

from dsrface.config.catalogue import BENCHMARKS
from dsrface.data.formats.bcolz_folder import bcolz_hint
from dsrface.errors import DataError, RunError
from dsrface.runtime.command_line import quoted
from dsrface.runtime.files import read_json
from dsrface.runtime.nesting import first_problem
from dsrface.types import SPLITS

DATASET_FILE = "dataset.json"
SCHEMA_VERSION = 1  # of that file
NATIVE_FILE = "native_faces.csv"  # of a native data set: each face, its size in the photo, its conditions
HIGH_FOLDER = "hr_images"
HR_CACHE_FOLDER = "hr_cache"  # where a packed cache keeps the HR faces
# Without a size in the name: how data sets that people already have name them.
PLAIN_LOW_FOLDER = "vlr_images"
PLAIN_OUTPUTS_FOLDER = "dsr_outputs"
_LOOKED_AT = 5000  # entries of an unknown folder; a benchmark may have millions
_LOW = re.compile(rf"{PLAIN_LOW_FOLDER}_(\d+)x\1")
_ANY = re.compile(rf"{HIGH_FOLDER}|({PLAIN_LOW_FOLDER}|{PLAIN_OUTPUTS_FOLDER})(_\d+x\d+)?")


class _Sizes(BaseModel, strict=True):
    high_px: PositiveInt | None = None
    vlr_px: list[PositiveInt] = []


class _Count(BaseModel, strict=True):
    images: NonNegativeInt


class _Info(BaseModel, strict=True):
    """What is read of a data set's description; it holds more."""

    sizes: _Sizes = _Sizes()
    degradations: dict[str, dict[str, Any]] = {}
    counts: dict[str, _Count] = {}
    content_sha256: str = ""


def person_of(name: str) -> str:
    """Return the person of a relative name: its first folder, or the text before the first underscore."""
    head, slash, _ = name.partition("/")
    return head if slash else os.path.splitext(head)[0].partition("_")[0]


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


def read_info(path: Path) -> dict[str, Any]:
    """Return what a data set says of itself; nothing for one that has no such file.

    Args:
        path: The data set's folder.

    Raises:
        DataError: another version of dsrface made it (`schema-version`).
        RunError: the file is damaged.
    """
    if not (path / DATASET_FILE).exists():
        return {}
    info = read_json(path / DATASET_FILE)
    if info.get("schema_version") != SCHEMA_VERSION:
        raise _other_version(path, info.get("schema_version"))
    try:
        _Info.model_validate(info)
    except ValidationError as error:
        raise RunError(
            f"The file is damaged: {first_problem(error)}.",
            id="file-damaged",
            where=path / DATASET_FILE,
            hint="Make the data set again with `dsrface prepare`.",
        ) from None
    return info


def _other_version(path: Path, version: object) -> DataError:
    return DataError(
        f"The data set has schema version {version!r}, not {SCHEMA_VERSION}.",
        id="schema-version",
        where=path / DATASET_FILE,
        hint="Make it again with `dsrface prepare`, or use the dsrface it was made with.",
    )


def vlr_sizes_of(path: Path) -> list[int]:
    """Return the sizes of VLR faces that a data set's own description or folders tell, in pixels."""
    with contextlib.suppress(RunError, ValueError, KeyError, TypeError):
        return [int(size) for size in read_json(path / DATASET_FILE)["sizes"]["vlr_px"]]
    roots = split_roots(path).values() if path.is_dir() else ()
    return sorted({size for root in roots for entry in root.iterdir() if (size := low_size_px(entry.name))})


def split_roots(path: Path) -> dict[str, Path]:
    """Return the splits that a data set has folders for, each with its folder; a flat one is `train`."""
    needed = "" if _is_native(path) else HIGH_FOLDER
    return {name: path / name for name in SPLITS if (path / name / needed).is_dir()} or {"train": path}


def _is_native(path: Path) -> bool:
    file = path / DATASET_FILE
    return file.is_file() and bool(read_json(file).get("native"))


def check_vlr_size(path: Path, size_px: int, *, instead: str = "") -> None:
    """Make sure that every split of a data set has VLR faces of a size, as far as names of folders tell.

    Those of a native data set may have none: its faces are brought to the sizes that a DSR takes.

    Args:
        path: The data set's folder.
        size_px: Side of the faces.
        instead: What to do where other sizes are there, but cannot be chosen; `{}` stands for them.

    Raises:
        DataError: one has no such faces (`no-such-vlr-size`).
    """
    if not path.is_dir() or _is_native(path):
        return
    for name, root in split_roots(path).items():
        folders = [entry.name for entry in root.iterdir()]
        sizes = {size for folder in folders if (size := low_size_px(folder))}
        if PLAIN_LOW_FOLDER not in folders and size_px not in sizes:
            raise no_such_vlr_size(name, root, size_px, sizes, instead=instead)


def check_has_twins(path: Path) -> None:
    """Refuse a native data set, as far as its description tells.

    Raises:
        DataError: it is one.
    """
    if path.is_dir() and _is_native(path):
        raise no_twins(path)


def no_twins(root: Path) -> DataError:
    """Return the refusal of a native data set where HR faces are needed."""
    return DataError(
        "The faces of this data set are low-resolution photos without HR twins.",
        id="no-twins",
        where=root,
        hint="Train a DSR, and what needs HR faces, on HR photos that are degraded alike "
        "(prepare --degradation realistic). `finetune` with --no-dsr, --live or --dsr-outputs, "
        "`precompute` and `evaluate` take this one.",
    )


def no_such_vlr_size(
    split: str, root: Path, size_px: int, sizes: Iterable[int], *, instead: str = ""
) -> DataError:
    """Return the error of a split without VLR faces of a size.

    Args:
        split: Its name.
        root: Its folder.
        size_px: The size that is wanted.
        sizes: Those that it has.
        instead: As of `check_vlr_size`.
    """
    have = [str(size) for size in sorted(sizes)]
    return DataError(
        f"The {split} split has no VLR faces of {size_px} px (it has: {', '.join(have) or 'none'}).",
        id="no-such-vlr-size",
        where=root,
        hint=(f"{(instead or 'Use --vlr-size {}.').format(' or '.join(have))} " if have else "")
        + f"`dsrface prepare PHOTOS DATA --vlr-sizes {','.join([*have, str(size_px)])}` adds it: PHOTOS and "
        "DATA as before.",
    )


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
    """Return the published benchmark, with folders that are no persons, of some files; or empty."""
    names = {part for file in files for part in file.split("/")}
    for name, benchmark in BENCHMARKS.items():
        if benchmark.sign and fnmatch.filter(names, benchmark.sign):
            return name
    return ""


def check_root(path: Path) -> None:
    """Make sure that a path looks like a data set.

    Raises:
        DataError: no folder, one split of a data set, or no HR images where a data set has them.
    """
    if not path.is_dir():
        make = "Make one with `dsrface prepare PHOTOS DATA`."
        is_part = (path.parent / DATASET_FILE).is_file()
        raise DataError(
            "The data set does not exist." if not path.exists() else "The data set is not a folder.",
            id="no-data-set",
            where=path,
            hint=f"Did you mean {path.parent}?" if is_part else make,
        )
    full = path.resolve()
    if full.name in SPLITS and (full.parent / DATASET_FILE).is_file():
        raise DataError(
            f"This is the {full.name} split of a data set, not a data set.",
            id="split-of-data-set",
            where=path,
            hint=f"Name the data set: {path.parent if path.name == full.name else full.parent}",
        )
    if is_data_folder(full.name) and (data := _data_set_above(path)):
        raise DataError(
            "This is a folder of images in a data set, not the data set.",
            id="split-of-data-set",
            where=path,
            hint=f"Name the data set: {data}",
        )
    has_images = any(folder.is_dir() for folder in (path / HIGH_FOLDER, path / "train" / HIGH_FOLDER))
    if not has_images and not (path / DATASET_FILE).exists():
        is_empty = not any(path.iterdir())
        raise DataError(
            "The folder is empty." if is_empty else f"There is no {HIGH_FOLDER} folder here or in train.",
            id="no-data-set",
            where=path,
            hint=_instead_of_root(path, is_empty=is_empty),
        )
    if (path / DATASET_FILE).exists():
        version = read_json(path / DATASET_FILE).get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:  # of folders only looked at, one that tells none is let through
            raise _other_version(path, version)


def _data_set_above(folder: Path) -> Path | None:
    """Return the data set that one of its folders of images is part of."""
    full = folder.resolve()
    data = full.parent.parent if full.parent.name in SPLITS else full.parent
    if not (data / DATASET_FILE).is_file():
        return None
    return next((above for above in folder.parents if above.resolve() == data), data)


def data_sets_in(folder: Path) -> list[Path]:
    """Return the first data sets that are folders of a folder."""
    return sorted(file.parent for file in folder.glob(f"*/{DATASET_FILE}"))[:4]


def data_sets_next_to(path: Path) -> str:
    """Return the data sets that may have been meant by a path that is none; empty where there are none."""
    near = data_sets_in(path.parent)
    if len(near) == 1:
        return f"Did you mean {near[0]}?"
    return f"Data sets next to it: {', '.join(map(str, near))}." if near else ""


def _instead_of_root(path: Path, *, is_empty: bool) -> str:
    """Return what to do about a folder that is no data set, in which or next to which one may be."""
    if inside := data_sets_in(path):
        return f"Did you mean {' or '.join(map(str, inside))}?"
    make = (
        "Make a data set: `dsrface prepare PHOTOS DATA`."
        if is_empty
        else f"Photos in folders per person become a data set with `dsrface prepare {quoted(path)} DATA`; a "
        "published benchmark is measured with `dsrface evaluate --protocol NAME`."
    )
    return bcolz_hint(path) or "\n".join(
        filter(None, [published_command(path) or data_sets_next_to(path), make])
    )
