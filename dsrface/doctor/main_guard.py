"""Which lines of a script start work when a worker imports it: those outside of functions and main guards."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

_STARTS = {"main", "train", "run", "fit"}


def unguarded_lines(file: str) -> list[int]:
    """Return the top-level lines of a script that start work when a worker imports it.

    Recognised are the line that this process is running, loops over a DataLoader made at top level,
    backward(), and calls of main(), train(), run() or fit(), outside of `if __name__ == "__main__":`.
    """
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    loaders: set[str] = set()
    lines = {line for line in _running_lines(file) if _runs_on_import(tree.body, line)}
    for node in run_on_import(tree.body):
        if isinstance(node, ast.Assign) and "DataLoader" in ast.dump(node.value):
            loaders |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.For):
            names = {part.id for part in ast.walk(node.iter) if isinstance(part, ast.Name)}
            if names & (loaders | {"DataLoader"}):
                lines.add(node.lineno)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name == "backward" or (name in _STARTS and (name in functions or name == "fit")):
                lines.add(node.lineno)
    return sorted(lines)


def run_on_import(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import runs, those inside loops and other blocks too."""
    for node in body:
        if not _is_definition(node):
            if not _is_guard(node):
                yield node
            for part in _inner_parts(node):
                yield from run_on_import(getattr(node, part, []))


def _runs_on_import(body: Iterable[ast.stmt], line: int) -> bool:
    """Return whether an import runs the statement at a line."""
    node = next((node for node in body if node.lineno <= line <= (node.end_lineno or 0)), None)
    if node is None or _is_definition(node):
        return False
    inner = [part for name in _inner_parts(node) for part in getattr(node, name, [])]
    if _is_guard(node):
        return _runs_on_import(inner, line)
    is_inside = any(part.lineno <= line <= (part.end_lineno or 0) for part in inner)
    return _runs_on_import(inner, line) if is_inside else True


def _inner_parts(node: ast.stmt) -> tuple[str, ...]:
    return ("orelse",) if _is_guard(node) else ("body", "orelse", "finalbody")


def _is_definition(node: ast.stmt) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


def _is_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.dump(node.test)


def _running_lines(file: str) -> Iterator[int]:
    """Yield the line of a module's own code that the main thread is in, if it is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            yield frame.f_lineno
        frame = frame.f_back
