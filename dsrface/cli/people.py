"""Commands that say who somebody is: enrol, identify, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.options import Device, VlrSize
from dsrface.cli.output import Output

app = typer.Typer()

_Weights = Annotated[
    Path | None, typer.Option("--weights", metavar="RUN_OR_FILE", help="Recogniser; by default the judge.")
]
_Dsr = Annotated[
    Path | None, typer.Option("--dsr", metavar="RUN_OR_FILE", help="Super-resolves small faces first.")
]
_Far = Annotated[
    float | None, typer.Option("--far", metavar="RATE", help="Share of strangers that may be accepted.")
]
_Threshold = Annotated[
    float | None, typer.Option("--threshold", metavar="COSINE", help="The threshold itself, instead.")
]
_Calibrate = Annotated[
    Path | None,
    typer.Option("--calibrate", metavar="DATA", help="Choose it on this data set's validation persons."),
]
_Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE.png", help="Images to look at, with scores.")
]
_Align = Annotated[
    Literal["auto", "none"] | None,
    typer.Option("--align", help="Find the face with the detector, or take each image as an aligned face."),
]
_OnBadImage = Annotated[
    Literal["fail", "skip"] | None,
    typer.Option("--on-bad-image", help="Stop at an unusable photo, or list it and go on."),
]


def _list_answers(result: Any, output: Output) -> None:
    """Print a line a photo."""
    for item in result.answers:
        matches = ", ".join(f"{match.person} {match.score:.3f}" for match in item.matches)
        output.out.print(
            f"{item.name}: {item.person or 'unknown'} ({matches})", markup=False, highlight=False
        )


@command(app, "enrol")
def enrol(
    gallery: Annotated[Path | None, typer.Argument(metavar="GALLERY", help="Folder of known people.")] = None,
    *,
    weights: _Weights = None,
    dsr: _Dsr = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="File to write.")] = None,
    persons: Annotated[
        str | None,
        typer.Option(metavar="auto|LEVEL|PATTERN|FILE", help="Whose a photo is, as for `dsrface prepare`."),
    ] = None,
    far: _Far = None,
    threshold: _Threshold = None,
    calibrate: _Calibrate = None,
    vlr_size: VlrSize = None,
    align: _Align = None,
    on_bad_image: _OnBadImage = None,
    device: Device = None,
) -> Flags:
    """Enrol known people.

    Writes one embedding a person, and the threshold from which on a match counts. Photos may be of any size;
    small faces go through --dsr.

    Example:

        dsrface enrol known/ --weights runs/tuned --dsr runs/dsr16 --out people.npz
    """
    return locals()


@command(app, "identify", render=_list_answers)
def identify(
    photos: Annotated[Path | None, typer.Argument(metavar="PHOTOS", help="A photo, or a folder.")] = None,
    *,
    gallery: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="What `dsrface enrol` wrote.")
    ] = None,
    threshold: _Threshold = None,
    top: Annotated[int | None, typer.Option(metavar="N", help="Best matches to list.")] = None,
    sheet: _Sheet = None,
    align: _Align = None,
    on_bad_image: _OnBadImage = None,
    device: Device = None,
) -> Flags:
    """Say who is in photos.

    Or that it is nobody who is enrolled: below the threshold, the answer is "unknown".

    Example:

        dsrface identify photos/ --gallery people.npz --sheet answers.png
    """
    return locals()


@command(app, "verify")
def verify(
    first: Annotated[Path | None, typer.Argument(metavar="A", help="A photo.")] = None,
    second: Annotated[Path | None, typer.Argument(metavar="B", help="Another photo.")] = None,
    *,
    weights: _Weights = None,
    dsr: _Dsr = None,
    far: _Far = None,
    threshold: _Threshold = None,
    calibrate: _Calibrate = None,
    vlr_size: VlrSize = None,
    sheet: _Sheet = None,
    align: _Align = None,
    device: Device = None,
) -> Flags:
    """Say whether two photos show one person.

    Exit code 1 when they do not.

    Example:

        dsrface verify a.jpg b.jpg --weights runs/tuned --dsr runs/dsr16
    """
    return locals()
