"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dsrface.cli.field_help import complete_preset, show_all

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, errors as JSON on stderr.")
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, metavar="", show_default=False, help="Say more; -vv for everything."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes, only the result.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file, e.g. the config.toml of a run.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key of `dsrface config show`; may be repeated."),
]

# Help, choices and bounds of all these are those of the configuration's field; see `field_help`.
Choice = Annotated[str | None, typer.Option()]
Number = Annotated[int | None, typer.Option(metavar="N")]
File = Annotated[Path | None, typer.Option(metavar="FILE")]
Folder = Annotated[Path | None, typer.Option(metavar="DIR")]
RunOrFile = Annotated[Path | None, typer.Option(metavar="RUN_OR_FILE")]
DataArgument = Annotated[Path | None, typer.Argument(metavar="DATA")]
VlrSize = Annotated[int | None, typer.Option("--vlr-size", metavar="PX")]
NumberOrAuto = Annotated[str | None, typer.Option(metavar="auto|N")]
RunDir = Annotated[Path | None, typer.Option("--run", metavar="DIR")]
Resume = Annotated[bool | None, typer.Option("--resume")]
Device = Annotated[str | None, typer.Option(metavar="NAME")]
Amp = Choice
Seed = Number

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Named set of values, such as tiny.",
        autocompletion=complete_preset,
    ),
]
HelpAll = Annotated[
    bool,
    typer.Option("--help-all", is_eager=True, callback=show_all, help="Show every option, and exit."),
]


# Every command has these, and every command with a configuration has those as well; see `execute.command`.
OUTPUT_OPTIONS: Mapping[str, tuple[Any, object]] = {
    "json": (Json, False),
    "verbose": (Verbose, 0),
    "quiet": (Quiet, False),
}
CONFIG_OPTIONS: Mapping[str, tuple[Any, object]] = {
    "config": (ConfigFile, None),
    "set_": (Assignments, None),
    "help_all": (HelpAll, False),
}


def comma_numbers(text: str | None, name: str, example: str) -> list[float] | None:
    """Return the numbers of a text such as `16,24,32`.

    Args:
        text: What was typed; None for nothing.
        name: The flag.
        example: What it may be, for the message.

    Raises:
        UsageError: not a list of numbers.
    """
    from dsrface.errors import UsageError

    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{name} takes numbers with commas between them, not {text!r}.",
            id="bad-list",
            hint=f"For example {name} {example}",
        ) from None
