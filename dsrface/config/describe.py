"""What a configuration consists of, for people: every key with its type, default and meaning."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dsrface.config.sources import Config


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


def keys(schema: type[BaseModel], *, prefix: str = "", defaults: BaseModel | None = None) -> Iterator[Key]:
    """Yield every key of a schema, tables after plain values, as TOML has them.

    Args:
        schema: A command's root model, or a table of it.
        prefix: Dotted path of the table, with its dot.
        defaults: The table's default where its owner overrides the fields' own.
    """
    tables = []
    for name, field in schema.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            default = getattr(defaults, name, field.default)
            tables.append((f"{prefix}{name}.", table, default if isinstance(default, BaseModel) else None))
            continue
        default = (
            getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        )
        is_required = default is PydanticUndefined
        value = None if is_required else _plain(default)
        yield Key(f"{prefix}{name}", _words(field), value, is_required, field.description or "")
    for path, table, default in tables:
        yield from keys(table, prefix=path, defaults=default)


def template(schema: type[Config], values: dict[str, Any]) -> str:
    """Return a TOML file with every key, its meaning as a comment; keys without a value are commented out.

    Args:
        schema: The command's root model.
        values: Dotted key to value, above the defaults (a preset).
    """
    lines = [f"# Configuration of `dsrface {schema.command}`; delete what you do not change."]
    table = ""
    for key in keys(schema):
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


def _words(field: FieldInfo) -> str:
    """Return a field's type and bounds in words."""
    return f"{_type_words(field.annotation)} {_bounds(field.metadata)}".strip()


def _bounds(metadata: Iterable[Any]) -> str:
    signs = ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))
    return ", ".join(
        f"{sign} {bound:g}"
        for item in metadata
        for sign, name in signs
        if (bound := getattr(item, name, None)) is not None
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
