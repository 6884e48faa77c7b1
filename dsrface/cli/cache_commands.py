"""`dsrface cache ls|verify|gc`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsrface.cli.execute import Flags, command

app = typer.Typer(help="List, check and clean packed caches.")
PathArgument = Annotated[Path | None, typer.Argument(metavar="PATH")]


@command(app, "ls", runs="cache")
def ls(path: PathArgument = None) -> Flags:
    """List every packed cache below PATH.

    Images, bytes, what made it and whether it is complete.

    Example:

        dsrface cache ls data/
    """
    return {"action": "ls", "path": path}


@command(app, "verify", runs="cache")
def verify(
    path: PathArgument = None,
    *,
    sample: Annotated[float | None, typer.Option(metavar="FRACTION")] = None,
) -> Flags:
    """Compare every checksum.

    Exit code 1 when something is damaged.

    Example:

        dsrface cache verify data/train/dsr_outputs_16x16
    """
    return {"action": "verify", "path": path, "sample": sample}


@command(app, "gc", runs="cache")
def gc(
    path: PathArgument = None,
    *,
    dry_run: Annotated[bool | None, typer.Option("--dry-run")] = None,
) -> Flags:
    """Delete what killed runs have left.

    Temporary files, and shards and tables that no manifest and no unfinished run names any more.

    Example:

        dsrface cache gc data/ --dry-run
    """
    return {"action": "gc", "path": path, "dry_run": dry_run}
