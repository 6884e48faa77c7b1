"""Lists of images: whose each is, and which split it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from dsrface.errors import DataError
from dsrface.runtime.files import MAX_TEXT_BYTES, read_bounded
from dsrface.types import SPLITS

_SPLIT_WORDS = {
    "train": ("0", "train", "training", "train_set", "training_set"),
    "val": ("1", "val", "valid", "validation", "dev"),
    "test": ("2", "test", "testing", "eval", "test_set", "testing_set"),
}


T = TypeVar("T")


class FileTable(Generic[T]):
    """A value for each image of a list.

    Args:
        values: Value by file as the list writes it, with `/`.
    """

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = values
        by_name: dict[str, T | None] = {}
        for file, value in values.items():
            name = file.rpartition("/")[2]
            by_name[name] = value if by_name.get(name, value) == value else None
        self._by_name = by_name

    def __len__(self) -> int:
        return len(self._values)

    def values(self) -> Iterable[T]:
        """Return all values."""
        return self._values.values()

    def get(self, file: str) -> T | None:
        """Return the value of an image by its path, by any end of its path, or by its name alone."""
        rest = file
        while rest:
            if rest in self._values:
                return self._values[rest]
            rest = rest.partition("/")[2]
        return self._by_name.get(file.rpartition("/")[2])


def read_file_list(path: Path, *, what: str) -> FileTable[str]:
    """Read lines of an image and a value, separated by a comma, semicolon, tab or blanks.

    A first line of headings names no image and does no harm.

    Args:
        path: The list.
        what: What the value is, for the messages: `person` or `split`.

    Raises:
        DataError: unreadable, empty, or a line of another form, with its number.
    """
    try:
        text = read_bounded(path, max_bytes=MAX_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the list: {error}.", id="bad-list-file", where=path) from None
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        fields = _fields(line)
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"Expected an image and a {what}, not {line.strip()!r}.",
                id="bad-list-file",
                where=f"{path}, line {number}",
                hint=f"One line per image: its path, a blank or comma, its {what}.",
            )
        values[fields[0].replace("\\", "/").removeprefix("./")] = fields[1]
    if not values:
        raise DataError("The list is empty.", id="bad-list-file", where=path)
    return FileTable(values)


def split_of_word(word: str) -> str | None:
    """Return train, val or test for what a list or a folder calls it; None for another word."""
    return next((split for split, words in _SPLIT_WORDS.items() if word.strip().lower() in words), None)


def split_folders(files: Iterable[str]) -> dict[str, str]:
    """Return the split that each top folder names, when all images lie in such folders and there are two.

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


def _fields(line: str) -> list[str]:
    for separator in ("\t", ";", ","):
        if separator in line:
            return [field.strip() for field in line.split(separator)]
    name, _, value = line.strip().rpartition(" ")
    return [name.strip(), value]
