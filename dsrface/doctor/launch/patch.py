"""The recommended settings as a patch of the source, where the call that made the loader is found in it."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OFF = {"prefetch_factor": None, "persistent_workers": False, "multiprocessing_context": None}
# What DataLoader does without being asked.
_LEFT_OUT = {
    "prefetch_factor": "None",
    "persistent_workers": "False",
    "pin_memory": "False",
}


@dataclass(frozen=True)
class Change:
    """What a loader shall be given.

    Args:
        made_at: `file:line` of the call that made it.
        arguments: Name of an argument -> its value.
    """

    made_at: str
    arguments: Mapping[str, Any]


def arguments_of(recommendation: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recommendation as arguments; those that need workers are switched off without any."""
    names = ("num_workers", "prefetch_factor", "persistent_workers", "pin_memory", "multiprocessing_context")
    found = {name: recommendation[name] for name in names}
    return found if recommendation["num_workers"] else {**found, **_OFF}


def make_patch(changes: Sequence[Change]) -> tuple[str, list[str]]:
    """Return a unified diff, and the places where no call was found that can be changed."""
    edits: dict[Path, list[tuple[int, int, str]]] = {}
    missed: list[str] = []
    for change in changes:
        name, _, line = change.made_at.rpartition(":")
        found = _edits(Path(name), int(line), change.arguments)
        if found is None:
            missed.append(change.made_at)
        else:
            edits.setdefault(Path(name), []).extend(found)
    return "".join(_diff(path, parts) for path, parts in edits.items()), missed


def _edits(path: Path, line: int, arguments: Mapping[str, Any]) -> list[tuple[int, int, str]] | None:
    """Return which bytes of a file to replace by what; None when the call is not found, or has **options."""
    try:
        source = path.read_bytes()
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and _name(node.func).endswith("Loader")
    ]
    if len(calls) != 1 or any(part.arg is None for part in calls[0].keywords) or not calls[0].args:
        return None
    [call] = calls
    starts = _line_starts(source)
    given = {part.arg: part.value for part in call.keywords}
    last = max(
        [*call.args, *given.values()], key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0)
    )
    changed: list[tuple[int, int, str]] = []
    added = ""
    for name, value in ((name, repr(value)) for name, value in arguments.items()):
        if name in given:
            changed.append((*_span(given[name], starts), value))
        elif value not in (_LEFT_OUT.get(name), "None"):
            added += f", {name}={value}"
    end = _span(last, starts)[1]
    return [*changed, (end, end, added)]


def _diff(path: Path, edits: list[tuple[int, int, str]]) -> str:
    old = path.read_bytes()
    new = old
    for start, end, text in sorted(edits, reverse=True):
        new = new[:start] + text.encode() + new[end:]
    before, after = (text.decode("utf-8", "replace").splitlines(keepends=True) for text in (old, new))
    name = path.as_posix()
    return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


def _span(node: ast.expr, starts: list[int]) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _line_starts(source: bytes) -> list[int]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
