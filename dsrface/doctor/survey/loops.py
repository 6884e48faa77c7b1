"""Where the user's code changes a data set again and again: from epoch to epoch, or from batch to batch."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dsrface.runtime.user_code import is_users_module, short_path

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OVER_BATCHES = re.compile(r"loader|batch|\bdl\b", re.IGNORECASE)
_OVER_EPOCHS = re.compile(r"range|count\(|epoch", re.IGNORECASE)
_TRAINS = re.compile(r"train|fit|epoch|step|valid|eval|run", re.IGNORECASE)
_A_DATA_SET = re.compile(r"data|set$|(?:^|_)ds$|stream|corpus|buffer", re.IGNORECASE)


def changed_in_loops(setters: Mapping[str, set[str]]) -> dict[str, str]:
    """Return those members that the user's code changes in a loop of training, each with `file:line`.

    A loop of training goes over a loader, or over epochs and loads inside. A call such as
    `loader.dataset.harder()` counts by its name, and where what is called looks like a data set by its own;
    so it is a guess, which no more than a warning may rest on.

    Args:
        setters: By path of a member, the names by which the main program changes it.
    """
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not is_users_module(module) or not file or not str(file).endswith(".py"):
            continue
        try:
            text = Path(file).read_text("utf-8")
            names = {name for path, several in setters.items() if path not in found for name in several}
            changes = list(_changes(ast.parse(text), None)) if any(name in text for name in names) else []
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        for receiver, name, line in changes:
            for path, several in setters.items():
                owner = path.split(".")[-2]
                if name in several and (receiver == owner or _A_DATA_SET.search(receiver)):
                    found.setdefault(path, f"{short_path(file)}:{line}")
    return found


def _changes(node: ast.AST, loop: ast.AST | None) -> Iterator[tuple[str, str, int]]:
    """Yield what loops of training change: the name of the object, of the method or member, the line."""
    if loop is not None and _is_training(loop, node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield _last_name(node.func.value), node.func.attr, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield _last_name(node.value), node.attr, node.lineno
    if isinstance(node, _LOOPS):
        loop = node
    elif isinstance(node, _FUNCTIONS):
        loop = node if "epoch" in node.name else None  # on_epoch_end is called again and again
    for child in ast.iter_child_nodes(node):
        yield from _changes(child, loop)


def _is_training(loop: ast.AST, change: ast.AST) -> bool:
    """Return whether a loop, which holds a change, loads what a data set has."""
    if isinstance(loop, _FUNCTIONS):
        return True
    if isinstance(loop, (ast.For, ast.AsyncFor)):
        over = ast.unparse(loop.iter)
        if _OVER_BATCHES.search(over):
            return True
        if not _OVER_EPOCHS.search(over):
            return False
    return any(
        isinstance(node, (*_LOOPS, ast.comprehension))
        or (isinstance(node, ast.Call) and bool(_TRAINS.search(ast.unparse(node.func))))
        for node in ast.walk(loop)
        if node is not loop and node is not change
    )


def _last_name(node: ast.expr) -> str:
    """Return the last name of an expression: `dataset` of `loader.dataset` and of `dataset`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
