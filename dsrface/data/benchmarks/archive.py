"""Finding the parts of an unpacked benchmark below the folder that it was unpacked to."""

from __future__ import annotations

from pathlib import Path

from dsrface.data.formats.text import read_list_text
from dsrface.errors import DataError

_OF_MACOS = "__MACOSX"  # its zip files hold a shadow of every file there


def parts_below(root: Path, pattern: str) -> list[Path]:
    """Return the files and folders below a folder that match a pattern, sorted; hidden ones are left out."""
    return sorted(path for path in root.rglob(pattern) if not _is_hidden(path.relative_to(root)))


def only_part(root: Path, pattern: str, *, hint: str) -> Path:
    """Return the one file that matches a pattern.

    Raises:
        DataError: there is none, or more than one.
    """
    found = parts_below(root, pattern)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.relative_to(root).as_posix() for path in found[:3])
    text = (
        f"There are {len(found)} files {pattern}: {names}{', ...' if len(found) > 3 else ''}."
        if found
        else f"There is no {pattern}."
    )
    raise DataError(text, id="other-layout", where=root, hint=hint)


def table_lines(path: Path, num_fields: int, *, separator: str | None = None) -> list[tuple[str, list[str]]]:
    """Return the place and the fields of each line of a list.

    Args:
        path: The list.
        num_fields: Fields of each line.
        separator: What is between them; None for blanks.

    Raises:
        DataError: unreadable, or a line of another number of fields.
    """
    try:
        text = read_list_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the list: {error}.", id="bad-list-file", where=path) from None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field.strip() for field in line.split(separator)] if line.strip() else []
        if fields and len(fields) != num_fields:
            raise DataError(
                f"{num_fields} fields are needed; there are {len(fields)}.",
                id="bad-list-file",
                where=f"{path}, line {number}",
            )
        if fields:
            rows.append((f"{path}, line {number}", fields))
    return rows


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == _OF_MACOS for part in relative.parts)
