"""Lists of verification pairs, in the forms that people have them.

LFW's `pairs.txt` with its first line of counts, a line of headings or neither; `path path label` with the
label 0 or 1, which may be first, with a line of headings or without; two lines a pair, `path label` each, as
CALFW and CPLFW have them. Blanks, tabs, commas or semicolons separate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
_FORMS = (
    "Known are LFW's form (a first line such as `10 300`, then `name i j` and `name1 i name2 j`), the same "
    "without its first line, `path path label` with 0 or 1, and CALFW's two lines of `path label` a pair. "
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
    lines = [(number, _label_last(fields)) for number, fields in lines]
    has_headings = len(first) == 3 and _is_heading(lines[0][1][2], [fields[-1] for _, fields in lines[1:]])
    if len(first) == 3 and len(lines) > has_headings:
        return _by_path(lines[1:] if has_headings else lines, path)
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
    try:
        text = read_list_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Cannot read the pairs file: {error}.", id="bad-pairs", where=path, hint=_FORMS
        ) from None
    numbered = [
        (number, _fields(line)) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
    ]
    if not numbered:
        raise DataError("The pairs file is empty.", id="bad-pairs", where=path, hint=_FORMS)
    return numbered


def _fields(line: str) -> list[str]:
    """Return the fields of a line; in a table of LFW, genuine pairs end with an empty one."""
    fields = fields_of(line)
    return fields[:-1] if len(fields) == _MOST_FIELDS and not fields[-1] else fields


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
    """Read CALFW's form; a label other than 0 says that both images show one person."""
    pairs = []
    for (line, first), (_, second) in zip(lines[::2], lines[1::2], strict=False):
        if len(first) != 2 or first[1:] != second[1:] or not first[1].isdecimal():
            raise DataError(
                f"Expected two lines of 'path label' with one label, not {' '.join(first)!r} and "
                f"{' '.join(second)!r}.",
                id="bad-pairs",
                where=f"{path}, line {line}",
                hint=_FORMS,
            )
        pairs.append(PairLine(first[0], second[0], int(first[1]) > 0, 0))
    if len(lines) % 2:
        raise DataError(
            "The last line has no other image.",
            id="bad-pairs",
            where=f"{path}, line {lines[-1][0]}",
            hint=_FORMS,
        )
    return PairList(tuple(pairs), 1)


def _by_path(lines: _Lines, path: Path) -> PairList:
    pairs = []
    for line, fields in lines:
        answer = _ANSWERS.get(fields[-1].lower()) if len(fields) == 3 else None
        if answer is None:
            raise DataError(
                f"Expected 'path path label' with the label 0 or 1, not {' '.join(fields)!r}.",
                id="bad-pairs",
                where=f"{path}, line {line}",
                hint=_FORMS,
            )
        pairs.append(PairLine(fields[0], fields[1], answer, 0))
    return PairList(tuple(pairs), 1)


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
