"""Lists of verification pairs, in the forms that people have them.

LFW's `pairs.txt` with its first line of counts, a line of headings or neither; `path path label` with the
label 0 or 1, which may be first, with a line of headings or without, and with a fourth column of folds or
without; two lines a pair, `path label` each, as CALFW and CPLFW have them. Blanks, tabs, commas or semicolons
separate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsrface.data.formats.conversion import to_utf8, unread_kind
from dsrface.data.formats.list_rows import is_row
from dsrface.data.formats.text import fields_of, read_list_text
from dsrface.data.formats.validation_set import BIN_SUFFIX
from dsrface.errors import DataError

Key = tuple[str, int] | str
_SAME = ("1", "1.0", "true", "yes", "same", "genuine", "positive", "match", "matched")
_OTHER = (
    "0",
    "0.0",
    "-1",
    "false",
    "no",
    "diff",
    "different",
    "impostor",
    "negative",
    "mismatch",
    "mismatched",
)
_ANSWERS = dict.fromkeys(_SAME, True) | dict.fromkeys(_OTHER, False)
_MAX_DIGITS = 18
_MOST_FIELDS = 4
_NUM_FOLDS = 10  # of CALFW and CPLFW
_FORMS = (
    "Known are LFW's form (a first line such as `10 300`, then `name i j` and `name1 i name2 j`), the same "
    "without its first line, `path path label` with 0 or 1, the same with a fold after the label, and "
    "CALFW's two lines of `path label` a pair. "
    "Paths with blanks need tabs or commas between the fields."
)


@dataclass(frozen=True)
class PairLine:
    """A pair of a list.

    Args:
        first: An image: (person, number), or its path.
        second: The other.
        is_same: Whether both show one person.
        fold: 0-based.
    """

    first: Key
    second: Key
    is_same: bool
    fold: int


@dataclass(frozen=True)
class PairList:
    """All pairs of a list.

    Args:
        pairs: In the order of the file.
        num_folds: 1 where the file tells none.
    """

    pairs: tuple[PairLine, ...]
    num_folds: int


_Lines = Sequence[tuple[int, list[str]]]


def read_pair_list(path: Path) -> PairList:
    """Read a list of pairs.

    Raises:
        DataError: not as described in this module; with the line.
    """
    lines = _lines(path)
    first = lines[0][1]
    if len(first) in (1, 2) and all(_is_number(field) and int(field) > 0 for field in first):
        return _lfw(lines, path)
    named = lines[1:] if len(lines) > 1 and not any(map(_is_number, first)) else lines
    if _lfw_keys(named[0][1]) is not None:
        return _lfw_without_counts(named, path)
    if len(lines) > 1 and all(len(fields) == 2 and fields[1].isdecimal() for _, fields in lines[:2]):
        return _two_lines_a_pair(lines, path)
    lines, folds = _without_folds(lines)
    lines = [(number, _label_last(fields)) for number, fields in lines]
    has_three = len(lines[0][1]) == 3
    has_headings = has_three and _is_heading(lines[0][1][2], [fields[-1] for _, fields in lines[1:]])
    if has_three and len(lines) > has_headings:
        return _by_path(lines[has_headings:], folds[has_headings:], path)
    raise DataError(
        f"The first line is of no known form: {' '.join(first)!r} is not the numbers of folds and of pairs.",
        id="bad-pairs",
        where=f"{path}, line {lines[0][0]}",
        hint=_FORMS,
    )


def check_pair_list(path: Path) -> None:
    """Refuse what `read_pair_list` refuses; a `.bin` file, which holds its own images, is not looked at."""
    if path.suffix.lower() != BIN_SUFFIX:
        read_pair_list(path)


def _lines(path: Path) -> _Lines:
    is_kind, convert = unread_kind(path)
    if is_kind:
        raise DataError(is_kind, id="bad-pairs", where=path, hint=convert if ".csv" in convert else _FORMS)
    try:
        text = read_list_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Cannot read the pairs file: {getattr(error, 'strerror', None) or error}.",
            id="bad-pairs",
            where=path,
            hint=(to_utf8(path) if isinstance(error, UnicodeDecodeError) else "") or _FORMS,
        ) from None
    numbered = [
        (number, _fields(line)) for number, line in enumerate(text.splitlines(), start=1) if is_row(line)
    ]
    if not numbered:
        raise DataError("The pairs file is empty.", id="bad-pairs", where=path, hint=_FORMS)
    return numbered


def _fields(line: str) -> list[str]:
    """Return the fields of a line; in a table of LFW, genuine pairs end with an empty one."""
    fields = fields_of(line)
    return fields[:-1] if len(fields) == _MOST_FIELDS and not fields[-1] else fields


def _without_folds(lines: _Lines) -> tuple[_Lines, list[str]]:
    """Return lines of two images, a label and a fold without the fold, and the folds; others as they are.

    Headings say which column that is; without them it is one of numbers, next to one of labels.
    """
    first = lines[0][1]
    if len(first) != _MOST_FIELDS or any(len(fields) != _MOST_FIELDS for _, fields in lines):
        return lines, [""] * len(lines)
    columns = list(zip(*(fields for _, fields in lines), strict=True))
    named = [place for place, name in enumerate(first) if "fold" in name.lower()]
    numbers = [place for place, column in enumerate(columns) if all(map(_is_number, column))]
    labels = [place for place in numbers if all(field in _ANSWERS for field in columns[place])]
    if not named and len(numbers) == 2 and labels:
        named = [place for place in numbers if place != labels[0]]
    if len(named) != 1 or not all(map(_is_number, columns[named[0]][1:])):
        return lines, [""] * len(lines)
    place = named[0]
    rest = [(number, [*fields[:place], *fields[place + 1 :]]) for number, fields in lines]
    return rest, list(columns[place])


def _label_last(fields: list[str]) -> list[str]:
    """Return the fields of a line with the label at its end; some lists have it first."""
    is_first = len(fields) == 3 and fields[0].lower() in _ANSWERS and fields[2].lower() not in _ANSWERS
    return [*fields[1:], fields[0]] if is_first else fields


def _is_heading(label: str, others: Sequence[str]) -> bool:
    """Return whether the first label names its column: `same` does above numbers."""
    return label.lower() not in _ANSWERS or (label.isalpha() and not any(map(str.isalpha, others)))


def _lfw(lines: _Lines, path: Path) -> PairList:
    head = [int(field) for field in lines[0][1]]
    num_folds, num_pairs = (1, head[0]) if len(head) == 1 else head
    expected = 2 * num_folds * num_pairs
    if len(lines) - 1 != expected:
        raise DataError(
            f"The first line promises {expected} pairs ({num_folds} folds of {num_pairs} + {num_pairs}); "
            f"{len(lines) - 1} follow.",
            id="bad-pairs",
            where=f"{path}, line {lines[-1][0]}",
            hint="Complete the file, or correct the first line.",
        )
    pairs = []
    for number, (line, fields) in enumerate(lines[1:]):
        is_same = number % (2 * num_pairs) < num_pairs
        keys = _checked_keys(fields, is_same=is_same, where=f"{path}, line {line}")
        pairs.append(PairLine(*keys, is_same, number // (2 * num_pairs)))
    return PairList(tuple(pairs), num_folds)


def _lfw_without_counts(lines: _Lines, path: Path) -> PairList:
    """Read LFW's lines alone: a fold starts with its genuine pairs, as LFW writes them."""
    pairs: list[PairLine] = []
    fold = 0
    for line, fields in lines:
        is_same = len(fields) == 3
        keys = _checked_keys(fields, is_same=is_same, where=f"{path}, line {line}")
        if is_same and pairs and not pairs[-1].is_same:
            fold += 1
        pairs.append(PairLine(*keys, is_same, fold))
    return PairList(tuple(pairs), fold + 1)


def _two_lines_a_pair(lines: _Lines, path: Path) -> PairList:
    """Read CALFW's form; a label other than 0 says that both images show one person, and is its fold.

    The lists say no folds of impostor pairs, and where all labels are 1 none at all: equal parts then, in the
    order of the file, as insightface's `.bin` files of these sets are measured.
    """
    pairs: list[tuple[str, str, int]] = []
    for (line, first), (_, second) in zip(lines[::2], lines[1::2], strict=False):
        if len(first) != 2 or first[1:] != second[1:] or not first[1].isdecimal():
            raise DataError(
                f"Expected two lines of 'path label' with one label, not {' '.join(first)!r} and "
                f"{' '.join(second)!r}.",
                id="bad-pairs",
                where=f"{path}, line {line}",
                hint=_FORMS,
            )
        pairs.append((first[0], second[0], int(first[1])))
    if len(lines) % 2:
        raise DataError(
            "The last line has no other image.",
            id="bad-pairs",
            where=f"{path}, line {lines[-1][0]}",
            hint=_FORMS,
        )
    labels = sorted({label for _, _, label in pairs if label > 0})
    counts = [sum((label > 0) == is_same for _, _, label in pairs) for is_same in (False, True)]
    num_folds = len(labels) if len(labels) > 1 else _NUM_FOLDS
    if min(counts) < num_folds:
        num_folds, labels = 1, []
    seen = [0, 0]
    found = []
    for first_image, second_image, label in pairs:
        is_same = label > 0
        fold = seen[is_same] * num_folds // counts[is_same]
        if is_same and len(labels) > 1:
            fold = labels.index(label)
        seen[is_same] += 1
        found.append(PairLine(first_image, second_image, is_same, fold))
    return PairList(tuple(found), num_folds)


def _by_path(lines: _Lines, folds: Sequence[str], path: Path) -> PairList:
    pairs = []
    numbers = sorted({int(fold or 0) for fold in folds})
    order = {number: place for place, number in enumerate(numbers)}
    for (line, fields), fold in zip(lines, folds, strict=True):
        answer = _ANSWERS.get(fields[-1].lower()) if len(fields) == 3 else None
        if answer is None:
            raise DataError(
                f"Expected 'path path label' with the label 0 or 1, not {' '.join(fields)!r}.",
                id="bad-pairs",
                where=f"{path}, line {line}",
                hint=_FORMS,
            )
        pairs.append(PairLine(fields[0], fields[1], answer, order[int(fold or 0)]))
    return PairList(tuple(pairs), len(numbers))


def _checked_keys(fields: Sequence[str], *, is_same: bool, where: str) -> tuple[Key, Key]:
    wanted = "name i j" if is_same else "name1 i name2 j"
    if len(fields) != (3 if is_same else 4):
        raise DataError(
            f"Expected {wanted!r}, not {' '.join(fields)!r}.", id="bad-pairs", where=where, hint=_FORMS
        )
    keys = _lfw_keys(fields)
    if keys is None:
        text = next(text for text in (fields[1:] if is_same else fields[1::2]) if not _is_number(text))
        raise DataError(f"{text!r} is not the number of an image.", id="bad-pairs", where=where, hint=_FORMS)
    if not is_same and keys[0][0] == keys[1][0]:
        raise DataError(
            f"An impostor pair names {keys[0][0]!r} twice.", id="bad-pairs", where=where, hint=_FORMS
        )
    return keys


def _lfw_keys(fields: Sequence[str]) -> tuple[tuple[str, int], tuple[str, int]] | None:
    if len(fields) == 3:
        fields = [fields[0], fields[1], fields[0], fields[2]]
    if len(fields) != 4 or not (_is_number(fields[1]) and _is_number(fields[3])):
        return None
    return (fields[0], int(fields[1])), (fields[2], int(fields[3]))


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MAX_DIGITS
