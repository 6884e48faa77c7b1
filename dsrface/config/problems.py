"""What is wrong with a configuration, in words, from what pydantic found."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dsrface.config.keys import known_keys, nest, tables_of
from dsrface.runtime.nesting import flatten

_MAX_PROBLEMS = 8
_MAX_SHOWN = 200
_ALIKE = 0.75
_QUOTED = re.compile(r"'([^']+)'")


def explain(problems: Sequence[Any], schema: type[BaseModel], origins: Mapping[str, str]) -> str:
    """Return pydantic's problems as lines: the key, who set it, what is wrong, and the nearest known key."""
    known = known_keys(schema)
    lines: dict[str, str] = {}  # by key, as every branch of a union complains on its own
    for problem in problems:
        path, owner = _place(problem["loc"], schema)
        if problem["type"] == "extra_forbidden":
            found = problem["input"]
            for key in flatten(nest(".".join(path), found)) or [".".join(path)]:
                if key in known:
                    lines[key] = f"{key}{_from(origins, key)} is not an option of {owner}."
                    continue
                near = _nearest(key, known)
                lines[key] = f"Unknown key {key!r}{_from(origins, key)}.{_question(near)}"
            continue
        while len(path) > 1 and ".".join(path) not in known:
            path.pop()  # a union's branch or a list's index
        key = ".".join(path)
        if problem["type"] == "missing":
            lines[key] = f"Missing value for {key!r}."
        elif not key:
            lines[key] = f"{_said(problem)}."
        elif key in lines:
            lines[key] = f"{lines[key].removesuffix('.')}, or: {_said(problem)}.{_choice_meant(problem)}"
        else:
            value = problem["input"]
            shown = shorten(str(value) if isinstance(value, Path) else repr(value))
            lines[key] = f"{key} = {shown}{_from(origins, key)}: {_said(problem)}.{_choice_meant(problem)}"
    problems_shown = list(lines.values())
    if len(problems_shown) > _MAX_PROBLEMS:
        problems_shown[_MAX_PROBLEMS:] = [f"... and {len(problems_shown) - _MAX_PROBLEMS} more like these."]
    return "\n".join(problems_shown)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question after the word that was probably meant, with a blank before it; empty without one."""
    return _question(next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=_ALIKE)), ""))


def _question(word: str) -> str:
    return f" Did you mean {word!r}?" if word else ""


def _choice_meant(problem: Any) -> str:
    """Return the question after one of the choices that pydantic names; empty where it names none."""
    choices = _QUOTED.findall(str(problem.get("ctx", {}).get("expected", "")))
    return did_you_mean(str(problem["input"]), choices)


def _nearest(key: str, known: Sequence[str]) -> str:
    """Return the known key that was probably meant, or an empty text: the last part counts first."""
    parent, _, leaf = key.rpartition(".")

    def likeness(other: str) -> tuple[float, bool, int]:
        table, _, name = other.rpartition(".")
        return difflib.SequenceMatcher(None, leaf, name).ratio(), table == parent, -other.count(".")

    best = max(known, key=likeness)
    if likeness(best)[0] >= _ALIKE:
        return best
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.5)), "")


def _place(place: Sequence[object], schema: type[BaseModel]) -> tuple[list[str], str]:
    """Return a problem's key without the tags of unions, and the last tag on the way."""
    path: list[str] = []
    table: type[BaseModel] | None = schema
    choices: dict[str, type[BaseModel]] = {}
    tag = ""
    for part in map(str, place):
        if part in choices:
            table, tag, choices = choices[part], part, {}
            continue
        path.append(part)
        field = table.model_fields.get(part) if table is not None else None
        choices = tables_of(field.annotation) if field is not None else {}
        table = choices.pop("", None)
    return path, tag


def _from(origins: Mapping[str, str], key: str) -> str:
    return f" (from {origins[key]})" if key in origins else ""


def shorten(text: str) -> str:
    """Return a value for a message, cut where it is very long."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _said(problem: Any) -> str:
    text = str(problem["msg"]).removeprefix("Value error, ").removesuffix(".")
    return text[:1].lower() + text[1:] if text.startswith("Input ") else text
