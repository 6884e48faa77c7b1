"""Which photos a source folder holds, and whose they are."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dsrface.data.decode import IMAGE_SUFFIXES, image_size, walk_images
from dsrface.data.folders import is_data_folder
from dsrface.data.splits import doubts_of_flat_names
from dsrface.errors import DataError, ImageError
from dsrface.runtime.names import original_name, portable_name, same_file_key
from dsrface.types import HIGH_SIZE_PX

_NAMING = "Put them in one folder per person, or name them <person>_<rest>.png."


@dataclass(frozen=True)
class Photo:
    """One photo of the source.

    Args:
        file: Relative to the source, with `/`.
        person: Name of the person, safe as a folder name everywhere.
        name: `<person>/<image>.png`, the name in the data set.
    """

    file: str
    person: str
    name: str


@dataclass(frozen=True)
class BadPhoto:
    """A photo that was left out, with the reason (an error id) and a sentence for people."""

    file: str
    reason: str
    message: str


@dataclass(frozen=True)
class Scan:
    """What a source folder holds.

    Args:
        photos: Sorted by file.
        strays: Photos whose person cannot be told.
        rule: How the persons were told, for people.
        doubts: What may be wrong with that, for people.
        merged: Persons whose photos lie in folders of one name in several places.
    """

    photos: list[Photo]
    strays: list[BadPhoto]
    rule: str
    doubts: list[str]
    merged: list[str]


def scan_photos(source: Path) -> Scan:
    """Find the photos and whose they are.

    With folders, the person is the name of the folder at the level where most photos lie, so that the folders
    which archives put around their persons do not matter; without, the text before the first underscore of
    `<person>_<rest>.png`.

    Raises:
        DataError: the source is not a folder, holds no photo or a data set, or tells no person.
    """
    files = _find(source)
    level = _level_of_persons(files)
    owned, strays = _tell_persons(files, level)
    if not owned:
        raise DataError(
            f"Nobody can say whose the {len(files)} photos are, e.g. {files[0]!r}.",
            id="no-person",
            where=source,
            hint=_NAMING,
        )
    places: dict[str, set[str]] = {}
    for item in owned:
        places.setdefault(item.person, set()).add(item.place)
    photos = list(_named(owned))
    rule = f"folders of level {level}" if level else "the name up to the first underscore"
    example = f"e.g. {photos[0].file!r} is of {photos[0].person!r}"
    merged = sorted(person for person, found in places.items() if len(found) > 1)
    doubts = doubts_of_flat_names(files) if level == 0 else []
    return Scan(photos, strays, f"persons: {rule}, {example}", doubts, merged)


def count_finished_faces(source: Path, photos: Sequence[Photo]) -> tuple[int, int]:
    """Return how many photos are 112x112 by their headers, and how many are readable at all."""
    finished = readable = 0
    for photo in photos:
        try:
            size = image_size(source / photo.file)
        except ImageError:
            continue
        readable += 1
        finished += size == (HIGH_SIZE_PX, HIGH_SIZE_PX)
    return finished, readable


def alike_persons(photos: Sequence[Photo]) -> list[list[str]]:
    """Return groups of person names that differ only in case, spaces or punctuation."""
    groups: dict[str, set[str]] = {}
    for photo in photos:
        plain = re.sub(r"~\d+$", "", unicodedata.normalize("NFKC", original_name(photo.person)))
        key = re.sub(r"[\s_.\-]+", "", plain).casefold()
        groups.setdefault(key, set()).add(photo.person)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


@dataclass(frozen=True)
class _Owned:
    """A photo whose person is known, with the place of the person's folder and a name without suffix."""

    file: str
    person: str
    place: str
    stem: str


def _find(source: Path) -> list[str]:
    if not source.is_dir():
        raise DataError(
            "The source is not a folder." if source.exists() else "The source folder does not exist.",
            id="no-source",
            where=source,
        )
    files = list(walk_images(source))
    if not files:
        raise DataError(
            "There is no photo in the source folder.",
            id="no-photos",
            where=source,
            hint=f"Photos are files named {', '.join(sorted(IMAGE_SUFFIXES))}, not hidden. {_NAMING}",
        )
    _refuse_data_set(source, files)
    return files


def _level_of_persons(files: Sequence[str]) -> int:
    """Return the level of folders that holds most photos, of two as common the upper one; 0 without."""
    levels = Counter(file.count("/") for file in files if "/" in file)
    return min(levels, key=lambda item: (-levels[item], item)) if levels else 0


def _tell_persons(files: Sequence[str], level: int) -> tuple[list[_Owned], list[BadPhoto]]:
    owned, strays = [], []
    persons = _Unique()
    for file in files:
        place, raw, rest = _parts(file, level)
        if raw:
            owned.append(_Owned(file, persons.name(raw), place, portable_name(os.path.splitext(rest)[0])))
            continue
        home = f"is in no person's folder (persons are the folders of level {level})"
        what = home if level else "has no underscore in its name"
        strays.append(BadPhoto(file, "no-person", f"The photo {what}: nobody can say whose it is."))
    return owned, strays


def _named(owned: Sequence[_Owned]) -> Iterator[Photo]:
    """Yield the photos under names that no other has on any system."""
    names = Counter(same_file_key(f"{item.person}/{item.stem}") for item in owned)
    used: set[str] = set()
    for item in owned:
        # a.jpg beside a.png: the suffix goes into the name.
        is_alone = names[same_file_key(f"{item.person}/{item.stem}")] == 1
        own = base = item.stem if is_alone else f"{item.stem}_{portable_name(item.file.rpartition('.')[2])}"
        number = 2
        while same_file_key(f"{item.person}/{own}") in used:
            own, number = f"{base}_{number}", number + 1
        used.add(same_file_key(f"{item.person}/{own}"))
        yield Photo(item.file, item.person, f"{item.person}/{own}.png")


def _parts(file: str, level: int) -> tuple[str, str, str]:
    """Return the place of the person's folder, the person (empty when untold) and the rest."""
    *folders, name = file.split("/")
    if level == 0:
        person, underscore, _ = name.partition("_")
        return "", person if underscore else "", name
    if len(folders) < level:
        return "", "", ""
    return "/".join(folders[: level - 1]), folders[level - 1], "_".join([*folders[level:], name])


def _refuse_data_set(source: Path, files: Sequence[str]) -> None:
    """Refuse a data set: its split folders would pass for persons, and its VLR faces for photos."""
    for file in files:
        for folder in PurePosixPath(file).parents:
            if is_data_folder(folder.name):
                raise DataError(
                    f"This is a data set already, not photos: there is {str(folder)!r}.",
                    id="source-is-data-set",
                    where=source,
                    hint="Use it as it is, e.g. with `dsrface train-dsr`; or name an hr_images folder of it "
                    "as SOURCE.",
                )


class _Unique:
    """Safe folder names that never merge two persons."""

    def __init__(self) -> None:
        self._by_raw: dict[str, str] = {}
        self._taken: set[str] = set()

    def name(self, raw: str) -> str:
        if raw not in self._by_raw:
            base = safe = portable_name(raw)
            number = 2
            while same_file_key(safe) in self._taken:
                safe, number = f"{base}~{number}", number + 1
            self._taken.add(same_file_key(safe))
            self._by_raw[raw] = safe
        return self._by_raw[raw]
