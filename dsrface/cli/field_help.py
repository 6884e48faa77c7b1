"""Help, choices, bounds, defaults and groups of options, from the command's configuration.

The configuration is imported when a command's own help is asked for or its flags are read, not for
`dsrface --help`: building all the models takes longer than all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand

_SHOWS_ALL = "dsrface.help_all"
_TYPE = re.compile(r" <[^ ]+>$")  # typer's name of what Python holds, which says nothing to a reader
_KEY = re.compile(r"`(\w+)`")  # as a text names another key
_LONGEST_CHOICES = 40
_EVERYWHERE = "Of every command"


@dataclass(frozen=True)
class Text:
    """What an option says about itself.

    Args:
        help: Meaning, bounds and default.
        choices: The texts it takes, with bars between them; empty when it takes others.
    """

    help: str
    choices: str


def texts_of(schema: type[Any]) -> dict[str, Text]:
    """Return the texts of every plain key of a configuration."""
    from dsrface.config.describe import bounds_of, choices_of, default_of

    texts = {}
    for name, field in schema.model_fields.items():
        bounds, default = bounds_of(field), default_of(field)
        notes = [bounds, f"default {default}" if default else "", "required" if field.is_required() else ""]
        shown = "; ".join(filter(None, notes))
        meaning = field.description or ""
        help = f"{meaning.removesuffix('.')} ({shown})." if shown and meaning else meaning
        choices = "|".join(choices_of(field))
        if len(choices) > _LONGEST_CHOICES:
            help, choices = f"{help} One of {', '.join(choices_of(field))}.", "NAME"
        texts[name] = Text(help, choices)
    return texts


class ConfiguredCommand(TyperCommand):
    """A command whose options without a help text of their own take that of the field of their name."""

    schema: ClassVar[Callable[[], type[Any]]]
    common: ClassVar[Iterable[str]] = ()  # options that every command has

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, described."""
        texts: dict[str, Text] | None = None
        for option in self.params:
            if option.name == "preset":
                option.help = _presets(str(ctx.info_name))  # type: ignore[attr-defined]
            if getattr(option, "help", None):
                continue
            if texts is None:
                texts = texts_of(type(self).schema())
            text = texts.get(str(option.name))
            if text is not None:
                option.help = _KEY.sub(self._as_typed, text.help)  # type: ignore[attr-defined]
                if text.choices and option.metavar is None:
                    option.metavar = text.choices
        return super().get_params(ctx)

    def _as_typed(self, key: re.Match[str]) -> str:
        """Return the flag of a key that a text names, where this command has one."""
        flags = [name for option in self.params if option.name == key[1] for name in option.opts]
        return next((f"`{flag}`" for flag in flags if flag.startswith("--")), key[0])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in their groups: the usual ones, or all of them for --help-all."""
        for heading, params in self._sections(ctx):
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl([(_TYPE.sub("", name), help) for name, help in records])

    def _sections(self, ctx: Any) -> Iterator[tuple[str, list[Any]]]:
        left = {str(param.name): param for param in self.get_params(ctx)}
        arguments = [param for param in left.values() if param.param_type_name == "argument"]
        yield "Arguments", arguments
        for param in arguments:
            left.pop(str(param.name))
        common = [left.pop(name) for name in (*type(self).common, "help") if name in left]
        groups = type(self).schema().help_groups
        for heading, names in groups.items():
            yield heading, [left.pop(name) for name in names if name in left]
        if not groups:
            yield "Options", list(left.values())
        elif ctx.meta.get(_SHOWS_ALL):
            yield "Less usual", list(left.values())
        yield _EVERYWHERE, [param for param in common if param.name != "help_all" or (groups and left)]


def _presets(command: str) -> str:
    from dsrface.config.sources import list_presets

    return f"Named set of values: {', '.join(list_presets(command))}."


def show_all(context: typer.Context, value: bool) -> None:  # noqa: FBT001 - typer calls it so
    """Print the help with every option, and end."""
    if value:
        context.meta[_SHOWS_ALL] = True
        typer.echo(context.get_help())
        raise typer.Exit


def complete_preset(context: typer.Context, incomplete: str) -> list[str]:
    """Return the presets of the command whose line is being completed."""
    from dsrface.config.sources import list_presets

    return [name for name in list_presets(str(context.info_name)) if name.startswith(incomplete)]


def complete_explanation(incomplete: str) -> list[str]:
    """Return the ids of checks and of the scanner's rules."""
    from dsrface.doctor.checks.registry import all_checks
    from dsrface.doctor.scan.rules import RULES

    return [id for id in (*all_checks(), *RULES) if id.startswith(incomplete)]
