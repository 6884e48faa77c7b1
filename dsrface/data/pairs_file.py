"""Verification pairs of a data set, from a list of pairs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dsrface.data.folders import person_of
from dsrface.data.formats.lists import FileTable
from dsrface.data.formats.pair_lists import Key, read_pair_list
from dsrface.data.layout import FaceSplit
from dsrface.data.pairs import Pairs, folded

_NUMBERED = re.compile(r"(?P<person>.*?)[_-]*(?P<number>\d+)")


def read_pairs(path: Path, split: FaceSplit) -> Pairs:
    """Read a list of pairs in any form of `formats.pair_lists`.

    Args:
        path: The list.
        split: Where the images are looked up: image `i` of a person is `<name>_<i>` with any leading zeros;
            a path is looked up without its suffix.

    Returns:
        The pairs whose images are in the split; the others are counted, as other splits may hold them.

    Raises:
        DataError: as `read_pair_list`.
    """
    listed = read_pair_list(path)
    find = _Finder(split)
    rows: list[tuple[int, int, bool, int]] = []
    for pair in listed.pairs:
        first, second = find(pair.first), find(pair.second)
        if first is not None and second is not None:
            rows.append((first, second, pair.is_same, pair.fold))
    num_skipped = len(listed.pairs) - len(rows)
    folds = "1 fold" if listed.num_folds == 1 else f"{listed.num_folds} folds"
    return folded(rows, f"{folds} of {path.name}", num_folds=listed.num_folds, num_skipped=num_skipped)


def numbered_person(name: str) -> str:
    """Return the person that a name such as `Ada_Lovelace_0001.jpg` tells; the stem of another name."""
    stem = os.path.splitext(name.rpartition("/")[2])[0]
    found = _NUMBERED.fullmatch(stem)
    return found["person"] if found else stem


class _Finder:
    """Finds the position of an image in a split."""

    def __init__(self, split: FaceSplit) -> None:
        self._by_number: dict[tuple[str, int], int] = {}
        by_path: dict[str, int] = {}
        flat: dict[tuple[str, int], int] = {}  # where folders are not persons
        for position, name in enumerate(split.names):
            stem = os.path.splitext(name)[0]
            by_path[stem] = position
            if found := _NUMBERED.fullmatch(stem.rpartition("/")[2]):
                self._by_number[person_of(name), int(found["number"])] = position
                flat.setdefault((found["person"], int(found["number"])), position)
        self._by_number = flat | self._by_number
        self._by_path = FileTable(by_path)

    def __call__(self, key: Key) -> int | None:
        if isinstance(key, tuple):
            return self._by_number.get(key)
        return self._by_path.get(os.path.splitext(key.replace("\\", "/").removeprefix("./"))[0])
