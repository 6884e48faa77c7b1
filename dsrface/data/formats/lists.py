"""Lists of images: whose each is, and which split it belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from dsrface.data.decode import has_image_suffix
from dsrface.data.formats.conversion import to_utf8, unread_kind
from dsrface.data.formats.list_rows import list_pairs
from dsrface.data.formats.text import read_list_text
from dsrface.errors import DataError
from dsrface.types import SPLITS

_SPLIT_WORDS = {
    "train": ("0", "train", "training", "train_set", "training_set"),
    "val": ("1", "val", "valid", "validation", "dev"),
    "test": ("2", "test", "testing", "eval", "test_set", "testing_set"),
}


T = TypeVar("T")


@dataclass(frozen=True)
class _Match(Generic[T]):
    """A line of a list that fits an image, in so many parts of their paths."""

    value: T
    line: str
    depth: int


class FileTable(Generic[T]):
    """A value for each image of a list.

    Args:
        values: Value by file as the list writes it, with `/`.
    """

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = values
        self._ends: dict[tuple[int, bool], dict[str, _Match[T] | None]] = {}

    def __len__(self) -> int:
        return len(self._values)

    @property
    def example(self) -> str:
        """A file as the list writes it."""
        return next(iter(self._values), "")

    def values(self) -> Iterable[T]:
        """Return all values."""
        return self._values.values()

    def get(self, file: str) -> T | None:
        """Return the value of an image by its path, by an end of its path, or by an end of the list's paths.

        An end that the list has with several values has none; upper and lower case count as the same there,
        and suffixes do where nothing else fits: CelebA's lists say `.jpg` of the images that are `.png`.
        """
        found = self._match(file)
        return None if found is None else found.value

    def of(self, files: Iterable[str]) -> dict[str, T]:
        """Return the values of images as `get` does, but for those that only share a name with a line.

        A line of `cy/1.jpg` says nothing of `anna/1.jpg` and `bo/1.jpg`, though no other line ends so. An
        image that fits a part of a line alone has its value only where no other image fits that line; one of
        the same name but for its suffix is no other.
        """
        matches = {file: found for file in files if (found := self._match(file)) is not None}
        claims: dict[str, set[str]] = {}
        for file, found in matches.items():
            claims.setdefault(found.line, set()).add(os.path.splitext(file)[0])
        return {
            file: found.value
            for file, found in matches.items()
            if found.depth > found.line.count("/") or len(claims[found.line]) == 1
        }

    def _match(self, file: str) -> _Match[T] | None:
        rest = file
        while rest:
            if rest in self._values:
                return _Match(self._values[rest], rest, rest.count("/") + 1)
            rest = rest.partition("/")[2]
        for has_suffix in (True, False):
            for depth in range(file.count("/") + 1, 0, -1):
                found = self._by_end(depth, has_suffix=has_suffix).get(
                    _end(file, depth, has_suffix=has_suffix)
                )
                if found is not None:
                    return found
        return None

    def _by_end(self, depth: int, *, has_suffix: bool) -> dict[str, _Match[T] | None]:
        """Return the values by the last parts of the list's paths, None where they differ."""
        key = (depth, has_suffix)
        if key not in self._ends:
            ends: dict[str, _Match[T] | None] = {}
            for file, value in self._values.items():
                end = _end(file, depth, has_suffix=has_suffix)
                before = ends.get(end, _Match(value, file, depth))
                is_same = before is not None and before.value == value
                ends[end] = before if is_same else None
            self._ends[key] = ends
        return self._ends[key]


def _end(file: str, depth: int, *, has_suffix: bool) -> str:
    end = "/".join(file.split("/")[-depth:]).casefold()
    return end if has_suffix or not has_image_suffix(end) else os.path.splitext(end)[0]


def read_file_list(path: Path, *, what: str) -> FileTable[str]:
    """Read lines of an image and a value, or of a value and an image, with a comma, semicolon, tab or blanks.

    In lines of three, such as those of `.lst` files, the value comes after the image, or before it where the
    image is last. A first line of headings is passed over; one that names the columns of image and value, in
    any order, tells where they are among others. JSON, or JSON lines, has values by
    image, images by value, or records with such names.

    Args:
        path: The list.
        what: What the value is, for the messages: `person` or `split`.

    Raises:
        DataError: unreadable, empty, or a line of another form, with its number.
    """
    is_kind, convert = unread_kind(path)
    if is_kind:
        raise DataError(is_kind, id="bad-list-file", where=path, hint=convert)
    try:
        text = read_list_text(path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The list is no text: {error}.",
            id="bad-list-file",
            where=path,
            hint=to_utf8(path) or f"Write it as CSV: one line per image, its path, a comma, its {what}.",
        ) from None
    except OSError as error:
        raise DataError(f"Cannot read the list: {error}.", id="bad-list-file", where=path) from None
    pairs = list_pairs(text, path, what)
    values = {file.replace("\\", "/").removeprefix("./"): value for file, value in pairs}
    if not values:
        raise DataError("The list is empty.", id="bad-list-file", where=path)
    return FileTable(values)


def split_of_word(word: str) -> str | None:
    """Return train, val or test for what a list or a folder calls it; None for another word."""
    return next((split for split, words in _SPLIT_WORDS.items() if word.strip().lower() in words), None)


def split_folders(files: Iterable[str]) -> dict[str, str]:
    """Return the split that each top folder names, when all images are in such folders and there are two.

    A folder that is called `0` or `1` is a person, not a split.
    """
    tops = {file.partition("/")[0] if "/" in file else "" for file in files}
    named = {top: split_of_word(top) for top in tops if not top.isdecimal()}
    found = {top: split for top, split in named.items() if split is not None}
    return found if len(found) == len(tops) and len(set(found.values())) > 1 else {}


def majority_splits(given: Sequence[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """Return one split a person, the one of most of their images, and the persons who had several.

    Args:
        given: Person and split of each image.
    """
    counts: dict[str, dict[str, int]] = {}
    for person, split in given:
        own = counts.setdefault(person, {})
        own[split] = own.get(split, 0) + 1
    chosen = {
        person: max(own, key=lambda split: (own[split], SPLITS.index(split)))
        for person, own in counts.items()
    }
    return chosen, sorted(person for person, own in counts.items() if len(own) > 1)
