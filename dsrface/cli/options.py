"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key of docs/config.md; may be repeated."),
]

DataArgument = Annotated[Path | None, typer.Argument(metavar="DATA", help="Data set folder.")]
VlrSize = Annotated[
    int | None,
    typer.Option("--vlr-size", metavar="16|24|32", help="Side of the low-resolution faces, in pixels."),
]
Workers = Annotated[
    str | None, typer.Option(metavar="auto|N", help="Worker processes; auto measures and says why.")
]
RunDir = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Run folder; by default runs/<command>/<UTC time>-<hash>."),
]
Preset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Named set of values; `dsrface config init` shows them.")
]
Resume = Annotated[bool | None, typer.Option("--resume", help="Go on from the run's last checkpoint.")]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
Amp = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None, typer.Option(help="Number format of the forward passes.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Fixes every random draw.")]


# Every command has these, and every command with a configuration has those as well; see `execute.command`.
OUTPUT_OPTIONS: Mapping[str, tuple[Any, object]] = {
    "json": (Json, False),
    "verbose": (Verbose, 0),
    "quiet": (Quiet, False),
}
CONFIG_OPTIONS: Mapping[str, tuple[Any, object]] = {"config": (ConfigFile, None), "set_": (Assignments, None)}


def comma_numbers(text: str | None, name: str) -> list[float] | None:
    """Return the numbers of a text such as `16,24,32`.

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
            f"{name} takes numbers with commas between them, not {text!r}.", id="bad-list"
        ) from None
