"""Verification pairs from a file in the format of LFW."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dsrface.data.layout import FaceSplit, person_of
from dsrface.data.pairs import Pairs, folded
from dsrface.errors import DataError

_NUMBER = re.compile(r"(\d+)$")


def read_pairs(path: Path, split: FaceSplit) -> Pairs:
    """Read LFW's `pairs.txt`.

    Line 1 holds the number of folds and of pairs of each kind in a fold (or only the latter, for one fold);
    every fold has its genuine lines `name i j` and then its impostor lines `name1 i name2 j`, separated by
    tabs or blanks. A byte order mark and any line ends are fine.

    Args:
        path: The file.
        split: Where the pictures are looked up: image `i` of a person is `<name>_<i>` with any leading zeros.

    Returns:
        The pairs whose pictures are in the split; the others are counted, as other splits may hold them.

    Raises:
        DataError: not as described; with the line.
    """
    lines = _lines(path)
    num_folds, num_pairs = _header(lines, path)
    expected = 2 * num_folds * num_pairs
    if len(lines) - 1 != expected:
        raise DataError(
            f"The first line promises {expected} pairs ({num_folds} folds of {num_pairs} + {num_pairs}); "
            f"{len(lines) - 1} follow.",
            id="bad-pairs",
            where=f"{path}, line {lines[-1][0]}",
            hint="Complete the file, or correct the first line.",
        )
    positions = _positions(split)
    rows: list[tuple[int, int, bool, int]] = []
    num_skipped = 0
    for number, (line, fields) in enumerate(lines[1:]):
        where = f"{path}, line {line}"
        is_same = number % (2 * num_pairs) < num_pairs
        found = [positions.get(key) for key in _keys(fields, is_same=is_same, where=where)]
        if found[0] is None or found[1] is None:
            num_skipped += 1
            continue
        rows.append((found[0], found[1], is_same, number // (2 * num_pairs)))
    origin = f"{num_folds} {'fold' if num_folds == 1 else 'folds'} of {path.name}"
    return folded(rows, origin, num_folds=num_folds, num_skipped=num_skipped)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the pairs file: {error}.", id="bad-pairs", where=path) from None
    # Tabs when a line has any, because names may hold blanks then.
    numbered = [
        (number, [part.strip() for part in line.split("\t")] if "\t" in line else line.split())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if not numbered:
        raise DataError("The pairs file is empty.", id="bad-pairs", where=path)
    return numbered


def _header(lines: Sequence[tuple[int, list[str]]], path: Path) -> tuple[int, int]:
    line, fields = lines[0]
    if len(fields) in (1, 2) and all(field.isdecimal() and int(field) > 0 for field in fields):
        return (1, int(fields[0])) if len(fields) == 1 else (int(fields[0]), int(fields[1]))
    raise DataError(
        f"The first line must hold the numbers of folds and of pairs, not {' '.join(fields)!r}.",
        id="bad-pairs",
        where=f"{path}, line {line}",
    )


def _keys(fields: Sequence[str], *, is_same: bool, where: str) -> list[tuple[str, int]]:
    wanted = "name i j" if is_same else "name1 i name2 j"
    if len(fields) != (3 if is_same else 4):
        raise DataError(f"Expected {wanted!r}, not {' '.join(fields)!r}.", id="bad-pairs", where=where)
    names = [fields[0], fields[0] if is_same else fields[2]]
    numbers = [fields[1], fields[2] if is_same else fields[3]]
    for text in numbers:
        if not text.isdecimal():
            raise DataError(f"{text!r} is not the number of a picture.", id="bad-pairs", where=where)
    if not is_same and names[0] == names[1]:
        raise DataError(f"An impostor pair names {names[0]!r} twice.", id="bad-pairs", where=where)
    return [(name, int(text)) for name, text in zip(names, numbers, strict=True)]


def _positions(split: FaceSplit) -> dict[tuple[str, int], int]:
    positions = {}
    for position, name in enumerate(split.names):
        number = _NUMBER.search(name.rpartition(".")[0])
        if number:
            positions[person_of(name), int(number[1])] = position
    return positions
