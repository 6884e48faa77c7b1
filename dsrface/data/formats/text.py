"""Text of lists that people have, whatever program wrote it."""

from __future__ import annotations

import codecs
import csv
import json
import re
from pathlib import Path
from typing import Any

from dsrface.runtime.files import MAX_TEXT_BYTES, read_bounded

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel and Windows' PowerShell write it


def read_list_text(path: Path) -> str:
    """Return the text of a list: UTF-8, or UTF-16 with its mark.

    Raises:
        OSError: unreadable.
        UnicodeDecodeError: no text.
    """
    return decode_list(read_bounded(path, max_bytes=MAX_TEXT_BYTES))


def decode_list(content: bytes) -> str:
    """Return what `read_list_text` does, of bytes.

    Raises:
        UnicodeDecodeError: no text.
    """
    return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")


def separator_of(line: str) -> str | None:
    """Return what is between the fields of a line; None for blanks, tried last as names may hold them."""
    return next((char for char in ("\t", ";", ",") if char in line), None)


def fields_of(line: str) -> list[str]:
    """Return the fields of a line without the blanks around them, and without the quotes of a CSV file."""
    separator = separator_of(line)
    if separator is None:
        return line.split()
    return [field.strip() for field in next(csv.reader([line], delimiter=separator))]


def looks_like_json(text: str) -> bool:
    """Return whether a text begins as a JSON object or list does, and not as a name in brackets may."""
    return re.match(r'\s*[\[{]\s*["\[{\]}]', text) is not None


def json_content(text: str) -> Any:
    """Return what a JSON file holds, or the list of what the lines of a file of JSON lines hold.

    Raises:
        ValueError: neither; the text says where.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    rows: list[Any] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            where = f"line {number}: {getattr(error, 'msg', error)}"
            raise ValueError(where if rows else problem) from None
    return rows
