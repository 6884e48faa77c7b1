"""The dotted keys of a configuration: a value below its tables, and every key of a schema."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag


def nest(key: str, value: object) -> dict[str, Any]:
    """Return a value below the tables that its dotted key names."""
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested  # type: ignore[no-any-return]


def tables_of(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the tables that a field may hold, by their tag in a union; without a tag for the only one."""
    if get_origin(annotation) in (Union, types.UnionType):
        tagged: dict[str, type[BaseModel]] = {}
        for part in get_args(annotation):
            if get_origin(part) is Annotated:
                table, *notes = get_args(part)
                tagged |= {note.tag: table for note in notes if isinstance(note, Tag)}
        return tagged
    is_table = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return {"": annotation} if is_table else {}


def key_meanings(schema: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Return every dotted key that a schema knows, with its description."""
    meanings: dict[str, str] = {}
    for name, field in schema.model_fields.items():
        tables = tables_of(field.annotation)
        for table in tables.values():
            meanings = key_meanings(table, f"{prefix}{name}.") | meanings
        if not tables:
            meanings[f"{prefix}{name}"] = field.description or ""
    return meanings


def keys_like(key: str, meanings: Mapping[str, str]) -> list[str]:
    """Return the keys whose last part is that of `key`, ends with it or has its initials, or described so.

    Args:
        key: As somebody wrote it, e.g. `learning_rate`.
        meanings: From `key_meanings`.
    """
    leaf = key.rpartition(".")[2]
    words = leaf.replace("_", " ").lower()
    same = [known for known in meanings if known.rpartition(".")[2] == leaf]
    same = same or [known for known in meanings if known.endswith(f"_{leaf}")]
    initials = "".join(word[0] for word in words.split())
    same = same or [known for known in meanings if known.rpartition(".")[2] == initials]
    is_phrase = " " in words  # one word alone stands in many descriptions
    return same or [known for known, text in meanings.items() if is_phrase and words in text.lower()]
