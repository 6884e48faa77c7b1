"""What people and programs read: numbers in words, printable text, strict JSON, cells of a CSV file."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Control characters but tab and line feed, line separators, turns of the writing direction, half characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?|-inf")


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 item` or `3 items`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def figure_text(value: float) -> str:
    """Return a number with two figures or more, and no exponent: 0.033, 3.0, 4120."""
    if not 0 < abs(value) < 10:
        return f"{value:.0f}"
    return f"{value:.{1 - math.floor(math.log10(abs(value)))}f}"


def size_text(num_bytes: float) -> str:
    """Return a number of bytes with the binary unit that docker, cgroups, `du -h` and nvidia-smi use."""
    size, unit = num_bytes, "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"


def printable(text: str) -> str:
    r"""Return text that does nothing to a terminal: control characters become escapes such as `\x1b`.

    Tab and line feed stay, and so does the backslash: a path of Windows must be usable as it is shown.
    """
    return _UNPRINTABLE.sub(lambda found: _escape(found[0]), text)


def without_addresses(text: str) -> str:
    """Return text without memory addresses, which differ from run to run and say nothing."""
    return _ADDRESS.sub("", text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return strict JSON: numbers that are not finite as null, control characters escaped.

    What JSON does not know, such as a path, becomes its text.
    """
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV that a spreadsheet shows and does not compute.

    A cell that it would take for a formula gets a `'` in front; numbers stay as they are, negative ones too.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _cell(value: object) -> object:
    is_formula = isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
