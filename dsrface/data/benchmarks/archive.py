"""Finding the parts of an unpacked benchmark below the folder that it was unpacked to."""

from __future__ import annotations

from pathlib import Path

from dsrface.config.catalogue import BENCHMARKS
from dsrface.data.folders import DATASET_FILE
from dsrface.data.formats.bcolz_folder import bcolz_hint
from dsrface.data.formats.text import read_list_text
from dsrface.data.formats.validation_set import BIN_SUFFIX
from dsrface.errors import DataError
from dsrface.runtime.command_line import quoted

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


def check_kind(path: Path, protocol: str, vlr_size: int) -> None:
    """Make sure that a path can be the data of a published benchmark, before it is read.

    Args:
        path: Which exists.
        protocol: One of `config.catalogue.BENCHMARKS`.
        vlr_size: Side of the low-resolution faces, for the command to use instead.

    Raises:
        DataError: a data set of dsrface, an empty folder, or a file where a folder is wanted.
    """
    if (path / DATASET_FILE).is_file():
        raise DataError(
            f"This is a data set of dsrface, not the archive of {protocol}.",
            id="other-layout",
            where=path,
            hint=f"It is measured without --protocol: dsrface evaluate {quoted(path)} --vlr-size {vlr_size}",
        )
    entry = BENCHMARKS[protocol]
    if path.is_file() != entry.is_file:
        wanted = "a file" if entry.is_file else "the folder of the benchmark"
        is_bin = path.is_file() and path.suffix.lower() == BIN_SUFFIX
        hint = "A .bin file is measured without --protocol." if is_bin else ""
        hint = bcolz_hint(path) if path.is_dir() else hint
        raise DataError(f"{protocol} takes {wanted}.", id="other-layout", where=path, hint=hint)
    if path.is_dir() and not any(path.iterdir()):
        hint = "Name the folder that the archive was unpacked to."
        raise DataError("The folder is empty.", id="other-layout", where=path, hint=hint)


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
