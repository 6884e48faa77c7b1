"""Finds the images that a list of pairs names among those of a data set; free of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from dsrface.data.folders import person_of
from dsrface.data.formats.lists import FileTable
from dsrface.data.formats.pair_lists import Key

_NUMBERED = re.compile(r"(?P<person>.*?)[_-]*(?P<number>\d+)")


def numbered_person(name: str) -> str:
    """Return the person that a name such as `Ada_Lovelace_0001.jpg` tells; the stem of another name."""
    stem = os.path.splitext(name.rpartition("/")[2])[0]
    found = _NUMBERED.fullmatch(stem)
    return found["person"] if found else stem


class PairFinder:
    """Finds the position of an image.

    Args:
        names: Relative names of the images.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_number: dict[tuple[str, int], int] = {}
        by_path: dict[str, int] = {}
        flat: dict[tuple[str, int], int] = {}  # where folders are not persons
        for position, name in enumerate(names):
            stem = os.path.splitext(name)[0]
            by_path[stem] = position
            if found := _NUMBERED.fullmatch(stem.rpartition("/")[2]):
                self._by_number[person_of(name), int(found["number"])] = position
                flat.setdefault((found["person"], int(found["number"])), position)
        self._by_number = flat | self._by_number
        self._by_path = FileTable(by_path)

    def __call__(self, key: Key) -> int | None:
        """Return where an image of a list stands among the names; None where it does not."""
        if isinstance(key, tuple):
            return self._by_number.get(key)
        return self._by_path.get(os.path.splitext(key.replace("\\", "/").removeprefix("./"))[0])
