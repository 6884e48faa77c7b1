"""Commands that say who somebody is: enrol, identify, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.options import Choice, Device, Number, RunOrFile, VlrSize
from dsrface.cli.output import Output

app = typer.Typer()

_Far = Annotated[float | None, typer.Option(metavar="RATE")]
_Threshold = Annotated[float | None, typer.Option(metavar="COSINE")]
_Calibrate = Annotated[Path | None, typer.Option(metavar="DATA")]
_Sheet = Annotated[Path | None, typer.Option(metavar="FILE.png")]


def list_answers(result: Any, output: Output) -> None:
    """Print a line a photo."""
    for item in result.answers:
        matches = ", ".join(f"{match.person} {match.score:.3f}" for match in item.matches)
        output.line(f"{item.name}: {item.person or 'unknown'} ({matches})")


@command(app, "enrol")
def enrol(
    gallery: Annotated[Path | None, typer.Argument(metavar="GALLERY")] = None,
    *,
    weights: RunOrFile = None,
    dsr: RunOrFile = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz")] = None,
    persons: Annotated[str | None, typer.Option(metavar="auto|LEVEL|PATTERN|FILE")] = None,
    far: _Far = None,
    threshold: _Threshold = None,
    calibrate: _Calibrate = None,
    vlr_size: VlrSize = None,
    align: Choice = None,
    on_bad_image: Choice = None,
    device: Device = None,
) -> Flags:
    """Enrol known people.

    Writes one embedding a person, and the threshold from which on a match counts. Photos may be of any size;
    small faces go through --dsr.

    Example:

        dsrface enrol known/ --weights runs/tuned --dsr runs/dsr16 --out people.npz
    """
    return locals()


@command(app, "identify", render=list_answers)
def identify(
    photos: Annotated[Path | None, typer.Argument(metavar="PHOTOS")] = None,
    *,
    gallery: Annotated[Path | None, typer.Option(metavar="FILE.npz")] = None,
    threshold: _Threshold = None,
    top: Number = None,
    sheet: _Sheet = None,
    align: Choice = None,
    on_bad_image: Choice = None,
    device: Device = None,
    trust_gallery: Annotated[bool | None, typer.Option("--trust-gallery")] = None,
) -> Flags:
    """Say who is in photos.

    Or that it is none of the enrolled: below the threshold, the answer is "unknown".

    Example:

        dsrface identify photos/ --gallery people.npz --sheet answers.png
    """
    return locals()


@command(app, "verify")
def verify(
    first: Annotated[Path | None, typer.Argument(metavar="A")] = None,
    second: Annotated[Path | None, typer.Argument(metavar="B")] = None,
    *,
    weights: RunOrFile = None,
    dsr: RunOrFile = None,
    far: _Far = None,
    threshold: _Threshold = None,
    calibrate: _Calibrate = None,
    vlr_size: VlrSize = None,
    sheet: _Sheet = None,
    align: Choice = None,
    device: Device = None,
) -> Flags:
    """Say whether two photos show one person.

    Exit code 1 when they do not.

    Example:

        dsrface verify a.jpg b.jpg --weights runs/tuned --dsr runs/dsr16
    """
    return locals()
