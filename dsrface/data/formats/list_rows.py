"""Rows of lists, as lines or as JSON: an image and its value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dsrface.data.decode import IMAGE_SUFFIXES, has_image_suffix
from dsrface.data.formats.text import fields_of, json_content, looks_like_json, separator_of
from dsrface.errors import DataError

_FILE_HEADINGS = (
    "file",
    "filename",
    "filepath",
    "path",
    "name",
    "image",
    "imageid",
    "imagename",
    "imagepath",
    "img",
)
_MOST_SHOWN = 100  # letters of a line in a message
# What lists call the column of a value, the surest first.
_VALUE_HEADINGS = {
    "person": (
        "person",
        "personid",
        "identity",
        "subject",
        "subjectid",
        "celebrity",
        "label",
        "class",
        "classid",
        "id",
        "name",
    ),
    "split": ("split", "partition", "subset"),
}
_SUFFIXES = "|".join(sorted(re.escape(suffix) for suffix in IMAGE_SUFFIXES))
_IMAGE_FIRST = re.compile(rf"(.+?(?:{_SUFFIXES}))\s+(.+)", re.IGNORECASE)


def list_pairs(text: str, path: Path, what: str) -> Iterator[tuple[str, str]]:
    """Return the images and their values, as `lists.read_file_list` describes.

    Args:
        text: Content of the list.
        path: The list, for messages.
        what: What the value is: `person` or `split`.

    Raises:
        DataError: a row of another form, with its place.
    """
    try:
        content = json_content(text) if looks_like_json(text) else None
    except ValueError as error:
        raise DataError(f"The list is no JSON: {error}.", id="bad-list-file", where=path) from None
    return _line_pairs(text, path, what) if content is None else _json_pairs(content, path, what)


def split_image(line: str) -> tuple[str, str] | None:
    """Return the image that a line begins with, blanks in its name and all, and what follows it."""
    found = _IMAGE_FIRST.fullmatch(line.strip())
    return None if found is None else (found[1], found[2])


def is_file_heading(text: str) -> bool:
    """Return whether a text is what lists call the column of their images."""
    return _plain(text) in _FILE_HEADINGS


def _plain(heading: str) -> str:
    return re.sub("[^a-z]", "", heading.lower())


def _line_pairs(text: str, path: Path, what: str) -> Iterator[tuple[str, str]]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if is_row(line)]
    if lines and lines[0][1].lower().startswith("sep="):  # Excel writes it
        lines = lines[1:]
    columns = _named_columns(fields_of(lines[0][1]), what) if lines else None
    for place, (number, line) in enumerate(lines):
        pair = _pair(_fields(line)) if columns is None else _picked(fields_of(line), columns)
        if pair is None:
            raise DataError(
                f"Expected an image and a {what}, not {line.strip()[:_MOST_SHOWN]!r}.",
                id="bad-list-file",
                where=f"{path}, line {number}",
                hint=f"One line per image: its path, a blank or comma, its {what}.",
            )
        if place or not (columns or is_file_heading(pair[0])):
            yield pair


def is_row(line: str) -> bool:
    """Return whether a line is neither empty, of separators alone as Excel has it, nor a remark."""
    fields = fields_of(line)
    return any(fields) and not (line.startswith("#") and not any(map(has_image_suffix, fields)))


def _named_columns(fields: Sequence[str], what: str) -> tuple[int, int] | None:
    """Return the places of the image (of a split also: person) and of the value; None without headings."""
    plain = [_plain(field) for field in fields]
    keys = [*_FILE_HEADINGS, *(_VALUE_HEADINGS["person"] if what == "split" else ())]
    key = next((plain.index(name) for name in keys if name in plain), None)
    value = next((plain.index(name) for name in _VALUE_HEADINGS[what] if name in plain), None)
    return None if key is None or value is None or key == value else (key, value)


def _picked(fields: Sequence[str], columns: tuple[int, int]) -> tuple[str, str] | None:
    if max(columns) >= len(fields) or not all(fields[place] for place in columns):
        return None
    return fields[columns[0]], fields[columns[1]]


def _json_pairs(content: Any, path: Path, what: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of values by image, images by value, records by image, or of a list of such.

    They may be the only part of an object that has parts, next to its version, say.
    """
    if isinstance(content, dict) and _record_pairs(content, what) is None:
        parts = [part for part in content.values() if isinstance(part, list | dict)]
        content = parts[0] if len(parts) == 1 else content
    for item in content if isinstance(content, list) else [content]:
        pairs = _record_pairs(item, what)
        if pairs is None:
            raise DataError(
                f"Expected an image and a {what}, not {json.dumps(item, ensure_ascii=False)[:_MOST_SHOWN]}.",
                id="bad-list-file",
                where=path,
                hint=f'Forms: {{"1.jpg": "a"}}, {{"a": ["1.jpg"]}} or [{{"file": "1.jpg", "{what}": "a"}}].',
            )
        yield from pairs


def _record_pairs(item: Any, what: str) -> list[tuple[str, str]] | None:
    """Return the pairs of one part of a JSON file; None for what is none."""
    if isinstance(item, list):
        pair = _pair([str(value) for value in item]) if all(map(_is_word, item)) else None
        return None if pair is None else [pair]
    if not isinstance(item, dict):
        return None
    words = {key: str(value) for key, value in item.items() if _is_word(value)}
    columns = _named_columns(list(words), what)
    if columns is not None:
        pair = _picked(list(words.values()), columns)
        return None if pair is None else [pair]
    pairs: list[tuple[str, str]] = []
    for key, value in item.items():
        if isinstance(value, list) and all(isinstance(file, str) for file in value):
            pairs += [(file, key) for file in value]
        elif isinstance(value, dict):
            found = _record_pairs({"file": key} | value, what)
            if found is None or len(found) != 1:
                return None
            pairs += found
        elif key in words:
            pairs.append((key, words[key]))
        else:
            return None
    return pairs


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _fields(line: str) -> list[str]:
    if separator_of(line) is not None:
        return fields_of(line)
    found = split_image(line)
    if found is not None:
        return list(found)
    fields = line.split()
    return fields if len(fields) == 3 and has_image_suffix(fields[2]) else line.strip().rsplit(None, 1)


def _pair(fields: list[str]) -> tuple[str, str] | None:
    """Return the image and the value of a line; None for a line of another form."""
    while len(fields) > 2 and not fields[-1]:  # a separator ends each line
        fields = fields[:-1]
    if not all(fields) or len(fields) not in (2, 3):
        return None
    place = next((number for number, field in enumerate(fields) if has_image_suffix(field)), 0)
    if len(fields) == 2:
        return fields[place], fields[1 - place]
    return (fields[1], fields[2]) if place == 1 else (fields[2], fields[1]) if place == 2 else None
