"""Text files among the photos that say whose they are, which split they have, or where the faces are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dsrface.data.formats.landmarks import read_landmarks
from dsrface.data.formats.lists import FileTable, read_file_list, split_of_word
from dsrface.errors import DsrfaceError

_SUFFIXES = {".txt", ".csv", ".tsv", ".lst", ".json", ".jsonl"}
_MOST_FILES = 20
_LEAST_SHARE = 0.5


def options_from_lists(source: Path, photos: Sequence[str]) -> dict[str, Path]:
    """Return the options of `prepare` that text files at the top of the source answer.

    Args:
        source: Folder of photos.
        photos: Their files, relative to it, with `/`.

    Returns:
        File by `--persons`, `--split-from` or `--align`; each names at least half of the photos.
    """
    found: dict[str, Path] = {}
    texts = sorted(path for path in source.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    for path in texts[:_MOST_FILES]:
        option = _option(path, photos)
        if option:
            found.setdefault(option, path)
    return found


def _option(path: Path, photos: Sequence[str]) -> str:
    try:
        landmarks = read_landmarks(path)
    except DsrfaceError:
        landmarks = {}
    if landmarks:
        return "--align" if _names(FileTable({file: file for file in landmarks}), photos) else ""
    try:
        table = read_file_list(path, what="person")
    except DsrfaceError:
        return ""
    if not _names(table, photos):
        return ""
    words = set(table.values())
    is_split = all(split_of_word(word) for word in words)
    if is_split and all(word.isdecimal() for word in words):  # three persons may be called 0, 1 and 2
        is_split = re.search("split|part|eval", path.name, re.IGNORECASE) is not None
    return "--split-from" if is_split else "--persons"


def _names(table: FileTable[str], photos: Sequence[str]) -> bool:
    return len(table.of(photos)) >= _LEAST_SHARE * len(photos)
