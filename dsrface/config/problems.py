"""What is wrong with a configuration, in words, from what pydantic found."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dsrface.config.keys import key_meanings, keys_like, nest, tables_of
from dsrface.runtime.nesting import flatten

_MAX_PROBLEMS = 8
_MAX_SHOWN = 200
_ALIKE = 0.75
# What pydantic and typer say of a wrong value, and the same in plain words; the first that fits counts.
_PLAIN_WORDS = (
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be a valid boolean.*", "must be true or false"),
    (r"Input should be a valid (tuple|list).*", "must be a list such as [16, 24]"),
    (r"Input should be a valid string", "must be a text"),
    (r"Input should be a valid dictionary.*", "must be a table"),
    (r"Input should be greater than or equal to (.+)", r"must be at least \1"),
    (r"Input should be less than or equal to (.+)", r"must be at most \1"),
    (r"Input should be greater than (.+)", r"must be more than \1"),
    (r"Input should be (.+)", r"must be \1"),
)
_TAG = re.compile(r"(\w+) should be one of: (.+)")
_WITH_UNIT = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*(%|[A-Za-z]+|x\d+)")  # 5%, 16px, 16x16


def explain(problems: Sequence[Any], schema: type[BaseModel], origins: Mapping[str, str]) -> str:
    """Return pydantic's problems as lines: the key, who set it, what is wrong, and the nearest known key."""
    known = key_meanings(schema)
    lines: dict[str, str] = {}
    wrong: dict[str, list[Any]] = {}  # by key, as every branch of a union complains on its own
    for problem in map(_at_its_tag, problems):
        path, owner = _place(problem["loc"], schema)
        if problem["type"] == "extra_forbidden":
            for key in flatten(nest(".".join(path), problem["input"])) or [".".join(path)]:
                lines[key] = (
                    f"{key}{_from(origins, key)} is not an option of {owner}."
                    if key in known
                    else f"Unknown key {key!r}{_from(origins, key)}.{_question(_nearest(key, known))}"
                )
            continue
        while len(path) > 1 and ".".join(path) not in known:
            path.pop()  # a union's branch or a list's index
        key = ".".join(path)
        if problem["type"] == "missing":
            lines[key] = f"Missing value for {key!r}."
        elif not key:
            text = plain_words(problem["msg"])
            is_word = text.split()[0].isalpha()  # and no name of a flag or key
            end = "" if text.endswith("?") else "."
            lines[key] = f"{text[0].upper() if is_word else text[0]}{text[1:]}{end}"
        else:
            wrong.setdefault(key, []).append(problem)
            lines[key] = f"{key} = {_wrong_value(wrong[key], _from(origins, key))}"
    problems_shown = list(lines.values())
    if len(problems_shown) > _MAX_PROBLEMS:
        problems_shown[_MAX_PROBLEMS:] = [f"... and {len(problems_shown) - _MAX_PROBLEMS} more like these."]
    return "\n".join(problems_shown)


def _at_its_tag(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the problem of a table whose tag names none that is known as one of the tag's value."""
    found = _TAG.fullmatch(problem["msg"])
    if found is None or not isinstance(problem["input"], Mapping) or found[1] not in problem["input"]:
        return problem
    choices = ", ".join(map(repr, found[2].split(", ")))
    place, value = (*problem["loc"], found[1]), problem["input"][found[1]]
    return {**problem, "loc": place, "input": value, "msg": f"should be one of: {choices}"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question after the word that was probably meant, with a blank before it; empty without one."""
    return _question(next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=_ALIKE)), ""))


def _question(word: str) -> str:
    return f" Did you mean {word!r}?" if word else ""


def plain_words(message: str) -> str:
    """Return what pydantic or typer says of a wrong value in plain words, without a dot at the end."""
    message = message.removeprefix("Value error, ").removesuffix(".")
    for pattern, words in _PLAIN_WORDS:
        if found := re.fullmatch(pattern, message):
            return found.expand(words)
    return message


def meant(value: str, message: str) -> str:
    """Return the value that was probably meant, or an empty text.

    Args:
        value: As it was typed.
        message: From `plain_words`; texts in quotes are what the value may be.
    """
    choices: list[str] = re.findall(r"'([^']+)'", message)
    if choices and (near := difflib.get_close_matches(value.lower(), choices, n=1)):
        return near[0]
    found = _WITH_UNIT.fullmatch(value)
    if found is None or "number" not in message:
        return ""
    return f"{float(found[1]) / 100:g}" if found[2] == "%" else found[1]


def _wrong_value(problems: Sequence[Any], origin: str) -> str:
    value = problems[0]["input"]
    said = [plain_words(problem["msg"]) for problem in problems]
    text = " or ".join([said[0], *(more.removeprefix("must be ") for more in said[1:])])
    shown = shorten(_as_typed(value))
    end = "" if text.endswith("?") else "."
    return f"{shown}{origin}: {text}{end}{_question(meant(str(value), text))}"


def _as_typed(value: object) -> str:
    """Return a value for a message; a list of numbers as the flag takes it."""
    if isinstance(value, (list, tuple)) and all(type(item) in (int, float) for item in value):
        return ",".join(f"{item:g}" for item in value)
    return str(value) if isinstance(value, Path) else repr(value)


def _nearest(key: str, known: Mapping[str, str]) -> str:
    """Return the known key that was probably meant, or an empty text: the last part counts first."""
    parent, _, leaf = key.rpartition(".")

    def likeness(other: str) -> tuple[float, bool, int]:
        table, _, name = other.rpartition(".")
        return difflib.SequenceMatcher(None, leaf, name).ratio(), table == parent, -other.count(".")

    best = max(known, key=likeness)
    if likeness(best)[0] >= _ALIKE:
        return best
    return next(iter(keys_like(key, known) + difflib.get_close_matches(key, known, n=1, cutoff=_ALIKE)), "")


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
