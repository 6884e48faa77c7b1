"""What an import of a script runs: all but its functions, its classes and what stands under a main guard."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator


def run_on_import(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import runs, those inside loops and other blocks too."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            yield from run_on_import(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            yield from run_on_import(getattr(node, part, []))
