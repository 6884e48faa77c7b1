"""A notebook as the rules read it: one source of its code cells, and the cell that a line of it is in."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from pathlib import Path

from dsrface.doctor.scan.rule import Finding
from dsrface.runtime.notebooks import code_cells

SUFFIX = ".ipynb"


@dataclass(frozen=True)
class Notebook:
    """The code of a notebook.

    Args:
        text: Of all cells that can be parsed, one after the other.
        firsts: Number of each cell and its first line in the text.
        unreadable: Cells that cannot be parsed, each with the reason.
    """

    text: str
    firsts: tuple[tuple[int, int], ...]
    unreadable: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Notebook:
        """Read a file.

        Raises:
            UsageError: it is no notebook.
        """
        texts, firsts, unreadable, line = [], [], [], 1
        for number, text in code_cells(path):
            try:
                ast.parse(text)
            except (SyntaxError, ValueError) as error:
                unreadable.append(f"{path} cell {number}: {error}")
                continue
            texts.append(text)
            firsts.append((number, line))
            line += text.count("\n") + 1
        return cls("\n".join(texts), tuple(firsts), tuple(unreadable))

    def placed(self, finding: Finding) -> Finding:
        """Return a finding with its cell, and the line within that."""
        cell, first = max((found for found in self.firsts if found[1] <= finding.line), key=lambda f: f[1])
        return replace(finding, cell=cell, line=finding.line - first + 1)
