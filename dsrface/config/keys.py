"""The dotted keys of a configuration: a value below its tables, and every key of a schema."""

from __future__ import annotations

import types
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


def known_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every dotted key that a schema knows."""
    keys: list[str] = []
    for name, field in schema.model_fields.items():
        tables = tables_of(field.annotation)
        for table in tables.values():
            keys += known_keys(table, f"{prefix}{name}.")
        if not tables:
            keys.append(f"{prefix}{name}")
    return list(dict.fromkeys(keys))
