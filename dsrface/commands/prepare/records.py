"""What `prepare` writes besides the faces: lists, a preview, and figures for `dataset.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsrface.commands.prepare.folder import (
    PREVIEW_FILE,
    SEVERAL_FACES_FILE,
)
from dsrface.data.decode import encode_png
from dsrface.data.folders import NATIVE_FILE
from dsrface.data.photos.duplicates import near_across_persons
from dsrface.data.photos.faces import MIN_HIGH_SHARE, THUMB_PX, FaceDone
from dsrface.data.photos.preview import preview_sheet
from dsrface.data.photos.scan import BadPhoto
from dsrface.runtime.files import write_bytes, write_text
from dsrface.runtime.text import csv_text, printable
from dsrface.types import SPLITS

MAX_LISTED = 100
_PREVIEW_ROWS = 8


def escape_name(name: str) -> str:
    """Return a file name on one line: what a terminal would act on becomes an escape as Python writes it."""
    return printable(name.replace("\\", "\\\\")).replace("\n", "\\n").replace("\t", "\\t")


def bad_images_csv(bad: Iterable[BadPhoto]) -> str:
    """Return one line a photo; names are escaped, so a line feed in one cannot start a line."""
    rows = ([escape_name(item.file), item.reason, escape_name(item.message)] for item in bad)
    return csv_text([["file", "reason", "message"], *rows])


def count_images(done: Iterable[FaceDone], splits: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return persons and images of each split that has any."""
    images = Counter(splits[item.photo.person] for item in done)
    persons = Counter(splits.values())
    return {name: {"persons": persons[name], "images": images[name]} for name in SPLITS if persons[name]}


def count_sizes(done: Iterable[FaceDone]) -> dict[str, int]:
    """Return how many native faces went to each size, smallest first."""
    return {str(size): count for size, count in sorted(Counter(item.size_px for item in done).items())}


def count_enlarged(done: Sequence[FaceDone], high_px: int) -> dict[str, float]:
    """Return how many HR faces are much larger than in their photos; empty where none is."""
    sides = [item.native_px for item in done if item.native_px]
    if not sides:
        return {}
    return {
        "num": len(sides),
        "below_px": round(MIN_HIGH_SHARE * high_px),
        "median_px": round(float(np.median(sides)), 1),
    }


def near_duplicates(
    thumbs_path: Path, rows: Sequence[int], done: Sequence[FaceDone], splits: Mapping[str, str]
) -> dict[str, Any]:
    """Return how many images of different persons look the same, and the most alike of them.

    Args:
        thumbs_path: File of all thumbs; it is mapped into memory, so that millions of them do not fill it.
        rows: Row of each finished photo in it.
        done: The finished photos.
        splits: Split of each person.
    """
    thumbs = np.memmap(thumbs_path, np.int8, "r").reshape(-1, THUMB_PX**2)
    chosen = thumbs if len(rows) == len(thumbs) else thumbs[list(rows)]
    persons = [item.photo.person for item in done]
    num_pairs, near = near_across_persons(chosen, persons, max_listed=MAX_LISTED)
    listed = [
        {
            "first": done[a].photo.name,
            "second": done[b].photo.name,
            "correlation": round(value, 4),
            "splits": [splits[done[a].photo.person], splits[done[b].photo.person]],
        }
        for a, b, value in near
    ]
    return {"num_pairs": num_pairs, "listed": listed}


def write_several_faces(data: Path, done: Iterable[FaceDone]) -> int:
    """List the photos with several faces; return how many there are."""
    several = [item for item in done if item.num_faces > 1]
    if several:
        rows = ([escape_name(item.photo.file), str(item.num_faces)] for item in several)
        write_text(data / SEVERAL_FACES_FILE, csv_text([["file", "faces"], *rows]))
    return len(several)


def write_native_faces(tree: Path, done: Sequence[FaceDone], splits: Mapping[str, str]) -> None:
    """List every native face with its size in the photo, the size it was brought to, and its conditions."""
    conditions = [name for name, _ in done[0].photo.conditions]
    rows = [
        [
            item.photo.name,
            splits[item.photo.person],
            escape_name(item.photo.file),
            f"{item.native_px:.1f}",
            str(item.size_px),
            "yes" if item.is_aligned else "no",
            *(escape_name(value) for _, value in item.photo.conditions),
        ]
        for item in done
    ]
    head = ["image", "split", "file", "native_px", "size_px", "aligned", *conditions]
    write_text(tree / NATIVE_FILE, csv_text([head, *rows]))


def write_preview(
    tree: Path,
    done: Sequence[FaceDone],
    splits: Mapping[str, str],
    sizes_px: Sequence[int],
    high_px: int,
) -> None:
    """Write one image of the first persons of the first split, each in every size that there is."""
    shown = next(split for split in SPLITS if split in splits.values())
    first: dict[str, str] = {}
    for item in done:
        if splits[item.photo.person] == shown:
            first.setdefault(item.photo.person, item.photo.name)
    names = sorted(first.values())[:_PREVIEW_ROWS]
    sheet = preview_sheet(tree / shown, names, sizes_px, high_px)
    write_bytes(tree / PREVIEW_FILE, encode_png(sheet, level=6))
