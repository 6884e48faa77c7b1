"""What a configuration consists of: every key with its type, default and meaning."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dsrface.config.fields import OneOf
from dsrface.config.keys import tables_of
from dsrface.config.sources import COMMAND_KEY, Config

_ABSURD = 1_000_000  # a bound from here on only keeps out what cannot be meant


@dataclass(frozen=True)
class Key:
    """One value of a configuration.

    Args:
        name: Dotted, e.g. `optim.lr`.
        type: In words, e.g. `integer >= 1`.
        default: JSON-able; None also when there is none.
        is_required: It has no default.
        meaning: The description, with unit and range.
    """

    name: str
    type: str
    default: Any
    is_required: bool
    meaning: str


def keys(
    schema: type[BaseModel],
    *,
    prefix: str = "",
    defaults: BaseModel | None = None,
    values: Mapping[str, Any] | None = None,
) -> Iterator[Key]:
    """Yield every key of a schema, tables after plain values, as TOML has them.

    Args:
        schema: A command's root model, or a table of it.
        prefix: Dotted path of the table, with its dot.
        defaults: The table's default where its owner overrides the fields' own.
        values: Dotted key to value: of tables that exclude one another, only the chosen one is listed. None
            lists all, with the name of their table before the meaning of what the first does not have.
    """
    tables: list[tuple[str, type[BaseModel], BaseModel | None, str]] = []
    for name, field in schema.model_fields.items():
        choices = tables_of(field.annotation)
        if choices:
            default = getattr(defaults, name, field.default)
            for tag, table in _chosen(choices, f"{prefix}{name}.", values, default).items():
                own = default if isinstance(default, table) else None
                tables.append((f"{prefix}{name}.", table, own, tag if values is None else ""))
            continue
        default = (
            getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        )
        is_required = default is PydanticUndefined
        value = None if is_required else _plain(default)
        yield Key(f"{prefix}{name}", _words(field), value, is_required, field.description or "")
    found: dict[str, Key] = {}
    for path, table, default, tag in tables:
        for key in keys(table, prefix=path, defaults=default, values=values):
            if key.name in found:
                types = dict.fromkeys([found[key.name].type, key.type])
                found[key.name] = replace(found[key.name], type=" | ".join(types))
            else:
                note = f"{tag}: " if tag and not _is_shared(key.name, path, tables) else ""
                found[key.name] = replace(key, meaning=f"{note}{key.meaning}")
    yield from found.values()


def _chosen(
    choices: Mapping[str, type[BaseModel]], path: str, values: Mapping[str, Any] | None, default: object
) -> Mapping[str, type[BaseModel]]:
    """Return the tables to list: all of them without values, else the one that the values call for."""
    if values is None or "" in choices:
        return choices
    tag = next(
        (
            str(values[key])
            for table in choices.values()
            if (key := f"{path}{next(iter(table.model_fields))}") in values
        ),
        next((tag for tag, table in choices.items() if isinstance(default, table)), next(iter(choices))),
    )
    return {tag: choices.get(tag, next(iter(choices.values())))}


def _is_shared(
    name: str, path: str, tables: Iterable[tuple[str, type[BaseModel], BaseModel | None, str]]
) -> bool:
    leaf = name.removeprefix(path)
    return all(leaf in table.model_fields for other, table, _, _ in tables if other == path)


def template(schema: type[Config], values: dict[str, Any]) -> str:
    """Return a TOML file with every key, its meaning as a comment; keys without a value are commented out.

    Args:
        schema: The command's root model.
        values: Dotted key to value, above the defaults (a preset).
    """
    lines = [
        f"# Configuration of `dsrface {schema.command}`; delete what you do not change.",
        tomli_w.dumps({COMMAND_KEY: schema.command}).strip(),
    ]
    table = ""
    for key in keys(schema, values=values):
        *parents, leaf = key.name.split(".")
        if ".".join(parents) != table:
            table = ".".join(parents)
            lines += ["", f"[{table}]"]
        value = values.get(key.name, key.default)
        lines += ["", f"# {key.meaning} ({key.type})"]
        if value is None:
            lines.append(f"# {leaf} = {'...  # required' if key.is_required else '...'}")
        else:
            lines.append(tomli_w.dumps({leaf: value}).strip())
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def choices_of(field: FieldInfo) -> list[str]:
    """Return the texts that a field accepts; empty when it accepts others as well."""
    listed = next((item for item in field.metadata if isinstance(item, OneOf)), None)
    if listed is not None:
        return list(listed.catalogue)
    parts = [part for part in get_args(field.annotation) if part is not type(None)]
    annotation = parts[0] if len(parts) == 1 else field.annotation
    return [str(item) for item in get_args(annotation)] if get_origin(annotation) is Literal else []


def bounds_of(field: FieldInfo) -> str:
    """Return a field's own bounds, such as `>= 1, <= 32`."""
    return _bounds(field.metadata)


def default_of(field: FieldInfo) -> str:
    """Return a field's default as people type it; empty for none, for a switch and for a table."""
    value = field.default
    if value is None or isinstance(value, (bool, BaseModel)) or value is PydanticUndefined:
        return ""
    return ",".join(map(_number_or_text, value)) if isinstance(value, tuple) else _number_or_text(value)


def _number_or_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(field: FieldInfo) -> str:
    """Return a field's type and bounds in words."""
    if choices := choices_of(field):
        return " | ".join(choices)
    return f"{_type_words(field.annotation)} {bounds_of(field)}".strip()


def _bounds(metadata: Iterable[Any]) -> str:
    signs = ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))
    return ", ".join(
        f"{sign} {bound if isinstance(bound, int) else f'{bound:g}'}"
        for item in metadata
        for sign, name in signs
        if (bound := getattr(item, name, None)) is not None and bound < _ABSURD
    )


def _type_words(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [item for extra in args[1:] for item in getattr(extra, "metadata", [extra])]
        return f"{_type_words(args[0])} {_bounds(inner)}".strip()
    if origin is Literal:
        return " | ".join(str(arg) for arg in args)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_words(arg) for arg in args if arg is not type(None))
    if origin in (tuple, list):
        return f"list of {_type_words(args[0])}"
    known = {int: "integer", float: "number", str: "text", bool: "true | false", Path: "path"}
    return known.get(annotation, getattr(annotation, "__name__", str(annotation)))
