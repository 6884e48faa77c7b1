"""What every error means and what to do about it, from `error_texts.toml` inside the package."""

from __future__ import annotations

import functools
import re
import textwrap
import tomllib
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True)
class ErrorText:
    """One error id.

    Args:
        id: Stable name.
        exit_code: Of its family.
        what: What happened, Markdown.
        do: What to do, Markdown.
    """

    id: str
    exit_code: int
    what: str
    do: str

    def text(self) -> str:
        """Return the explanation for a terminal."""
        parts = (f"error {self.id}, exit code {self.exit_code}", self.what, f"what to do: {self.do}")
        return "\n\n".join(textwrap.fill(_LINK.sub(r"\1", part), 90) for part in parts)

    @property
    def hint(self) -> str:
        """What to do, for an error's own hint."""
        return _LINK.sub(r"\1", self.do)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for --json."""
        return asdict(self)


@dataclass(frozen=True)
class Family:
    """Errors that share an exit code.

    Args:
        title: For the page.
        exit_code: Of all of them.
        note: A sentence on all of them; may be empty.
        errors: In the order of the page.
    """

    title: str
    exit_code: int
    note: str
    errors: tuple[ErrorText, ...]


@functools.cache
def families() -> tuple[Family, ...]:
    """Return every family with its errors."""
    file = resources.files("dsrface.runtime") / "error_texts.toml"
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(
        Family(
            table["title"],
            table["exit_code"],
            table["note"],
            tuple(
                ErrorText(id, table["exit_code"], text["what"], text["do"])
                for id, text in table["errors"].items()
            ),
        )
        for table in tables.values()
    )


@functools.cache
def error_texts() -> dict[str, ErrorText]:
    """Return the text of every error by its id."""
    return {text.id: text for family in families() for text in family.errors}
