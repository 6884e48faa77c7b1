"""In which line of a TOML file each key is set; tomllib does not say."""

from __future__ import annotations

import re

_TABLE = re.compile(r"\s*\[\s*([\w.-]+)\s*\]")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Return the line, from 1, in which each dotted key of a TOML text is set; quoted keys are left out."""
    table = ""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := _TABLE.match(line):
            table = f"{heading[1]}."
        elif key := _KEY.match(line):
            found.setdefault(f"{table}{key[1]}", number)
    return found
