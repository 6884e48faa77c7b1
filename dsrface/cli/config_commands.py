"""`dsrface config init|show|validate|schema`: look at a configuration without running anything."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsrface.cli.execute import COMMANDS, plain_command, schema_of
from dsrface.cli.options import Assignments, ConfigFile, Preset
from dsrface.cli.output import Output
from dsrface.errors import RunError, UsageError
from dsrface.runtime.command_line import quoted

if TYPE_CHECKING:
    from dsrface.config.sources import Config

app = typer.Typer(help="Write, show and check configuration files.")
CommandArgument = Annotated[str, typer.Argument(metavar="COMMAND", help=f"One of {', '.join(COMMANDS)}.")]


@plain_command(app, "init")
def init(
    command: CommandArgument,
    *,
    preset: Preset = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; by default it is printed.")
    ] = None,
    output: Output,
) -> None:
    """Write a configuration file.

    It has every key with its default and its meaning.

    Example:

        dsrface config init train-dsr --preset tiny --out dsr.toml
    """
    from dsrface.config.describe import template
    from dsrface.config.sources import load_preset
    from dsrface.runtime.files import write_text
    from dsrface.runtime.nesting import flatten

    schema = _schema(command)
    text = template(schema, flatten(load_preset(schema, preset)) if preset else {})
    if out is not None:
        if out.exists():
            raise RunError(
                "The file exists.", id="exists", where=out, hint="Give another name, or delete it first."
            )
        write_text(out, text)
    if output.json:
        output.document({"command": command, "path": str(out) if out else None, "toml": text})
    elif out is None:
        output.line(text.rstrip())
    else:
        output.line(f"wrote  {out}")
        output.line(f"next   dsrface {command} --config {out}")


@plain_command(app, "show")
def show(
    command: CommandArgument,
    *,
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Assignments = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs from the defaults.")] = False,
    output: Output,
) -> None:
    """Print every value with its origin.

    Which is the default, the preset, the file or --set.

    Example:

        dsrface config show train-dsr --preset base --set optim.lr=1e-4
    """
    from dsrface.config.describe import keys
    from dsrface.config.sources import merge

    schema = _schema(command)
    with _hint(f"dsrface config show {command} lists every key."):
        values, origins = merge(schema, preset=preset, config_file=config, assignments=tuple(set_ or ()))
    rows = []
    for key in keys(schema, values=values):
        origin = origins.get(key.name, "required" if key.is_required else "default")
        if not changed or origin not in ("default", "required"):
            rows.append({"key": key.name, "value": values.get(key.name, key.default), "origin": origin})
    if output.json:
        output.document({"command": command, "values": rows})
        return
    width = max((len(str(row["key"])) for row in rows), default=0)
    for row in rows:
        shown = "-" if row["value"] is None else json.dumps(row["value"])
        output.line(f"{row['key']:<{width}}  {shown}  ({row['origin']})")


@plain_command(app, "validate")
def validate(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[COMMAND] FILE", help="TOML file; its command, where it names none itself."),
    ],
    *,
    output: Output,
) -> None:
    """Check a configuration file without running it.

    Values that the command needs and the file leaves out are named; the command line may give them.

    Example:

        dsrface config validate train-dsr runs/dsr16/config.toml
    """
    from dsrface.config.sources import command_of, merge

    *named, last = words
    file = Path(last)
    if len(named) > 1:
        raise UsageError("Give one file, and before it at most its command.", id="bad-flag")
    if named and named[0] not in COMMANDS and last in COMMANDS:
        raise UsageError(
            "The command comes before the file.",
            id="bad-flag",
            hint=f"dsrface config validate {last} {quoted(named[0])}",
        )
    command = named[0] if named else command_of(file)
    if not command:
        raise UsageError(
            "The file does not say which command it is for.",
            id="bad-config",
            where=file,
            hint=f"dsrface config validate COMMAND {quoted(last)}",
        )
    schema = _schema(command)
    missing = "" if file.exists() else f"To make one: dsrface config init {command} --out {quoted(last)}"
    with _hint(missing or f"dsrface config show {command} lists every key."):
        _, origins = merge(schema, config_file=file)
    left = [key for key, field in schema.model_fields.items() if field.is_required() and key not in origins]
    if output.json:
        output.document(
            {"command": command, "path": last, "valid": True, "keys": sorted(origins), "missing": left}
        )
        return
    output.line(f"valid: {len(origins)} keys of {command} set in {file}")
    if left:
        output.line(f"left to the command line: {', '.join(left)}")


@plain_command(app, "schema")
def schema(command: CommandArgument, *, output: Output) -> None:
    """Print the JSON schema, for editors.

    Example:

        dsrface config schema finetune
    """
    output.document(_schema(command).model_json_schema())


@contextlib.contextmanager
def _hint(text: str) -> Iterator[None]:
    """Say what to do about a mistake in a configuration that says nothing itself."""
    try:
        yield
    except UsageError as error:
        error.hint = error.hint or text
        raise


def _schema(command: str) -> type[Config]:
    from dsrface.config.problems import did_you_mean

    known = f"Choose one of: {', '.join(COMMANDS)}."
    if command not in COMMANDS:
        begun = [name for name in COMMANDS if command and name.startswith(command)]
        near = did_you_mean(begun[0] if begun else command, COMMANDS)
        raise UsageError(
            f"There is no command {command!r} with a configuration.{near}",
            id="unknown-command",
            hint=f"Write it as --out {command} after the command." if command.endswith(".toml") else known,
        )
    return schema_of(command)
