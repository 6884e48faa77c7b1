"""The recommended settings as a patch of the source, where the call that made the loader is found in it."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OFF = {"prefetch_factor": None, "persistent_workers": False, "multiprocessing_context": None}
_POSITIONS = (  # of DataLoader's arguments; what comes after is given by name
    "dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "collate_fn", "pin_memory",
    "drop_last", "timeout", "worker_init_fn", "multiprocessing_context", "generator",
)  # fmt: skip
_SURE_POSITIONS = 5  # those of DataLoader's relatives that are none of the settings
_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # str.splitlines knows more ends of lines than git does
_NO_END = "\\ No newline at end of file\n"
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


def changed_arguments(recommendation: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a recommendation that a loader does not have yet.

    Args:
        recommendation: As `arguments_of` takes it.
        present: Settings of the loader by the names of the arguments, as far as they are known.
    """
    arguments = arguments_of(recommendation)
    return {name: value for name, value in arguments.items() if present.get(name, ...) != value}


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
    given = _given(calls[0]) if len(calls) == 1 else None
    if not given:
        return None
    starts = _line_starts(source)
    end = _end_of_arguments(calls[0], source, starts)
    changed: list[tuple[int, int, str]] = []
    added = ""
    for name, value in ((name, repr(value)) for name, value in arguments.items()):
        if name in given:
            changed.append((*_span(given[name], starts), value))
        elif value not in (_LEFT_OUT.get(name), "None"):
            added += f", {name}={value}"
    return [*changed, (end, end, added)]


def _given(call: ast.Call) -> dict[str, ast.expr] | None:
    """Return a call's arguments by name; None where they cannot be known."""
    is_plain = not any(isinstance(part, ast.Starred) for part in call.args)
    most = len(_POSITIONS) if _name(call.func) == "DataLoader" else _SURE_POSITIONS
    if not call.args or not is_plain or len(call.args) > most or any(not part.arg for part in call.keywords):
        return None
    return {**dict(zip(_POSITIONS, call.args)), **{str(part.arg): part.value for part in call.keywords}}


def _end_of_arguments(call: ast.Call, source: bytes, starts: Sequence[int]) -> int:
    """Return where a call's last argument ends, the brackets around it included."""
    end = max(_span(node, starts)[1] for node in [*call.args, *(part.value for part in call.keywords)])
    rest = source[end : _span(call, starts)[1] - 1]
    without_comments = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), rest)
    return end + without_comments.rfind(b")") + 1


def _diff(path: Path, edits: list[tuple[int, int, str]]) -> str:
    old = path.read_bytes()
    new = old
    for start, end, text in sorted(edits, reverse=True):
        new = new[:start] + text.encode() + new[end:]
    before, after = (_LINE.findall(text.decode("utf-8", "replace")) for text in (old, new))
    name = path.as_posix()
    lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_END}" for line in lines)


def _span(node: ast.expr, starts: Sequence[int]) -> tuple[int, int]:
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
