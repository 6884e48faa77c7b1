"""Commands around the pipeline: evaluate, doctor, bench, export, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.options import Device, Workers

app = typer.Typer()


@command(app, "bench")
def bench(
    what: Annotated[
        Literal["loader", "precompute", "finetune", "all"] | None, typer.Argument(help="Which to run.")
    ] = None,
    *,
    weights: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="DSR to measure with; a small one by default.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="N", help="Times each route is measured, in turn.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the data is made; by default a temporary folder."),
    ] = None,
    device: Device = None,
) -> Flags:
    """Measure the routes side by side.

    In one run, as ratios to a ceiling of that run, with the spread.

    Example:

        dsrface bench loader --json
    """
    return locals()


@command(app, "export")
def export(
    source: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder, checkpoint folder or weight file.")
    ] = None,
    *,
    format: Annotated[
        Literal["onnx", "safetensors"] | None, typer.Option(help="A graph for other runtimes, or weights.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write.")] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Overwrite the file.")] = None,
) -> Flags:
    """Write a trained network as one file.

    And prove that the file computes what torch computes; exit code 1 when it does not.

    Example:

        dsrface export runs/dsr16 --format onnx
    """
    return locals()


@command(app, "embed")
def embed(
    images: Annotated[Path | None, typer.Argument(metavar="IMAGES", help="Folder of 112x112 faces.")] = None,
    *,
    weights: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="Recogniser: a run or an EdgeFace file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="File to write.")] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Scale embeddings to length 1, or not.")
    ] = None,
    workers: Workers = None,
    device: Device = None,
) -> Flags:
    """Write the embeddings of a folder of faces.

    The file holds `names` and `embeddings`, float32 [n, 512].

    Example:

        dsrface embed faces/ --weights runs/recogniser --out faces.npz
    """
    return locals()
