"""What a rule of the scanner is, and what it finds."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dsrface.doctor.scan.source import Source

Hit = tuple[ast.AST, str]
Search = Callable[[Source], Iterable[Hit]]


@dataclass(frozen=True)
class Rule:
    """One thing that breaks workers and can be seen in the source.

    Args:
        id: Stable, `scan.` and a name.
        level: `error` where workers fail or give wrong data, `warning` where they do on some platforms or
            settings, `note` where it depends on the amount of data.
        title: What it finds.
        why: What goes wrong, and where.
        fix: What to do.
        example: Code that has it.
        search: Yields where a file has it, each with a sentence.
    """

    id: str
    level: str
    title: str
    why: str
    fix: str
    example: str
    search: Search

    def find(self, source: Source) -> Iterator[Finding]:
        """Yield what the rule finds in a file."""
        for node, message in self.search(source):
            yield Finding(
                self.id,
                self.level,
                source.path.as_posix(),
                getattr(node, "lineno", 1),
                getattr(node, "col_offset", 0) + 1,
                message,
            )

    def text(self) -> str:
        """Return the rule as paragraphs of at most 88 columns."""
        parts = [f"{self.id}: {self.title} ({self.level})"]
        parts += [
            textwrap.fill(f"{label}: {value}", 88, subsequent_indent="  ")
            for label, value in (("why", self.why), ("fix", self.fix))
        ]
        return "\n\n".join([*parts, "for example:\n" + textwrap.indent(self.example, "  ")])

    def to_dict(self) -> dict[str, Any]:
        """Return the parts, JSON-able."""
        names = ("id", "level", "title", "why", "fix", "example")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, order=True)
class Finding:
    """A place that breaks workers.

    Args:
        rule: Id of the rule.
        level: Of that rule.
        path: File, with forward slashes.
        line: From 1; in a notebook, within the cell.
        column: From 1.
        message: What is there.
        cell: Of a notebook, counted among its code cells from 1; 0 in other files.
    """

    rule: str
    level: str
    path: str
    line: int
    column: int
    message: str
    cell: int = 0

    @property
    def place(self) -> str:
        """Where it is, as compilers print it."""
        cell = f" cell {self.cell}" if self.cell else ""
        return f"{self.path}{cell}:{self.line}:{self.column}"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding, JSON-able."""
        return {**vars(self)}
