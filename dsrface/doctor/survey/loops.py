"""Where the user's code changes a data set again and again: from epoch to epoch, or from batch to batch."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsrface.runtime.user_code import is_users_module, short_path

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OVER_BATCHES = re.compile(r"loader|batch|\bdl\b", re.IGNORECASE)
_OVER_EPOCHS = re.compile(r"range|count\(|epoch", re.IGNORECASE)
_TRAINS = re.compile(r"train|fit|epoch|step|valid|eval|run", re.IGNORECASE)
_OPERATOR = r"(?:\+|-|\*\*?|//?|%|@|&|\||\^|<<|>>)"
_A_DATA_SET = re.compile(r"data|set$|(?:^|_)ds$|stream|corpus|buffer", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """A place where the user's code changes what items read.

    Args:
        where: `file:line`.
        is_per_batch: From batch to batch; else from epoch to epoch, or there is no telling.
    """

    where: str
    is_per_batch: bool


def changed_in_loops(setters: Mapping[str, set[str]]) -> dict[str, Change]:
    """Return those members and module variables that the user's code changes in a loop of training.

    A loop of training goes over a loader, or over epochs and loads inside. A call such as
    `loader.dataset.harder()` counts by its name, and where what is called looks like a data set by its own;
    so it is a guess, which no more than a warning may rest on. A module's variable is known for certain.

    Args:
        setters: By path of a member, the names by which the main program changes it.
    """
    found: dict[str, Change] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not is_users_module(module) or not file or not str(file).endswith(".py"):
            continue
        try:
            text = Path(file).read_text("utf-8")
            names = {name for path, several in setters.items() if path not in found for name in several}
            if not names or not _may_change(text, names):  # most modules do not, and parsing takes its time
                continue
            changes = list(_changes(ast.parse(text), None, is_global=lambda _: True))
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        for receiver, name, line, is_per_batch in changes:
            for path, several in setters.items():
                owner = path.rpartition(".")[0]
                is_known = module.__name__ == owner if receiver is None else _is_owner(receiver, owner)
                if name in several and is_known:
                    found.setdefault(path, Change(f"{short_path(file)}:{line}", is_per_batch))
    return found


def _may_change(text: str, names: Collection[str]) -> bool:
    """Return whether one of these names is called, assigned, or the variable of a loop anywhere in a text."""
    name = rf"\b(?:{'|'.join(map(re.escape, names))})\b"
    pattern = rf"{name}\s*(?:\(|{_OPERATOR}?=(?!=))|^\s*(?:async\s+)?for\b.*{name}|{name}\s*,.*=(?!=)"
    return re.search(pattern, text, re.MULTILINE) is not None


def _is_owner(receiver: str, owner: str) -> bool:
    return receiver == owner.rpartition(".")[2] or bool(_A_DATA_SET.search(receiver))


def _changes(
    node: ast.AST, loop: ast.AST | None, *, is_global: Callable[[str], bool]
) -> Iterator[tuple[str | None, str, int, bool]]:
    """Yield what loops of training change: the name of the object, None for the module; that of the method,
    member or variable; the line; and whether it happens from batch to batch.
    """
    if loop is not None and _is_training(loop, node):
        is_per_batch = _is_over_batches(loop)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield _last_name(node.func.value), node.func.attr, node.lineno, is_per_batch
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield _last_name(node.value), node.attr, node.lineno, is_per_batch
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and is_global(node.id):
            yield None, node.id, node.lineno, is_per_batch
    if isinstance(node, _LOOPS):
        loop = node
    elif isinstance(node, _FUNCTIONS):
        loop = node if "epoch" in node.name else None  # on_epoch_end is called again and again
        declared = {name for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names}
        is_global = declared.__contains__
    for child in ast.iter_child_nodes(node):
        yield from _changes(child, loop, is_global=is_global)


def _is_training(loop: ast.AST, change: ast.AST) -> bool:
    """Return whether a loop, which holds a change, loads what a data set has."""
    if isinstance(loop, _FUNCTIONS):
        return True
    if _is_over_batches(loop):
        return True
    if isinstance(loop, (ast.For, ast.AsyncFor)) and not _OVER_EPOCHS.search(ast.unparse(loop.iter)):
        return False
    return any(
        isinstance(node, (*_LOOPS, ast.comprehension))
        or (isinstance(node, ast.Call) and bool(_TRAINS.search(ast.unparse(node.func))))
        for node in ast.walk(loop)
        if node is not loop and node is not change
    )


def _is_over_batches(loop: ast.AST) -> bool:
    return isinstance(loop, (ast.For, ast.AsyncFor)) and bool(_OVER_BATCHES.search(ast.unparse(loop.iter)))


def _last_name(node: ast.expr) -> str:
    """Return the last name of an expression: `dataset` of `loader.dataset` and of `dataset`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
