"""Commands around the pipeline: evaluate, doctor, bench, export, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.field_help import complete_explanation
from dsrface.cli.options import (
    Amp,
    Choice,
    DataArgument,
    Device,
    File,
    Folder,
    Number,
    NumberOrAuto,
    RunOrFile,
    Seed,
    VlrSize,
)
from dsrface.cli.output import Output

app = typer.Typer()


def _print_table(result: Any, output: Output) -> None:
    from dsrface.cli.benchmark_table import render_benchmark
    from dsrface.cli.evaluate_table import render_evaluation

    render = render_benchmark if hasattr(result, "searches") else render_evaluation
    render(result, output.out)


def _show_doctor(result: Any, output: Output) -> None:
    """Print a report; an explanation is all summary."""
    if hasattr(result, "lines"):
        for line in result.lines():
            output.line(line)
        return
    from dsrface.cli.doctor_report import render_report

    if hasattr(result, "reports"):
        for heading, report in result.reports:
            for line in heading.splitlines():
                output.line(line, style="bold")
            render_report(report, output.out, verbose=output.verbosity > 0)
    elif hasattr(result, "report"):
        render_report(result.report, output.out, verbose=output.verbosity > 0)


@command(app, "evaluate", render=_print_table)
def evaluate(
    data: DataArgument = None,
    *,
    vlr_size: VlrSize = None,
    protocol: Choice = None,
    flip: Annotated[bool | None, typer.Option("--flip")] = None,
    dsr: RunOrFile = None,
    matrix: Annotated[list[Path] | None, typer.Option(metavar="RUN_OR_FILE")] = None,
    dsr_outputs: Folder = None,
    recogniser: RunOrFile = None,
    finetuned: RunOrFile = None,
    pairs: File = None,
    split: Choice = None,
    out: Folder = None,
    bootstrap: Number = None,
    seed: Seed = None,
    workers: NumberOrAuto = None,
    device: Device = None,
    amp: Amp = None,
) -> Flags:
    """Tell whether super-resolution helped.

    {bicubic, DSR} x {frozen, fine-tuned} and the HR ceiling, on test persons, with intervals by person and
    the raw-pixel, chance and reject-all lines. Prints the winner, whoever it is. Native faces and published
    benchmarks are measured as identification and verification, without figures against HR twins they lack.

    Example:

        dsrface evaluate data/ --vlr-size 16 --dsr runs/dsr16 --finetuned runs/finetuned
    """
    return locals()


@command(app, "doctor", render=_show_doctor)
def doctor(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA | -- COMMAND...]",
            help="A data set for --for, or a launch or .ipynb file to examine.",
        ),
    ] = None,
    *,
    purpose: Annotated[str | None, typer.Option("--for", metavar="COMMAND")] = None,
    vlr_size: VlrSize = None,
    dataset: Annotated[str | None, typer.Option(metavar="TARGET")] = None,
    dataset_args: Annotated[str | None, typer.Option(metavar="JSON")] = None,
    python: Annotated[Path | None, typer.Option(metavar="PATH")] = None,
    batch_size: Number = None,
    start_method: Annotated[str | None, typer.Option(metavar="METHOD")] = None,
    workers: Number = None,
    budget_s: Annotated[str | None, typer.Option("--budget", metavar="SECONDS")] = None,
    step_ms: Annotated[float | None, typer.Option(metavar="MS")] = None,
    consumer_rate: Annotated[float | None, typer.Option(metavar="N")] = None,
    world_size: Number = None,
    strict: Annotated[bool | None, typer.Option("--strict")] = None,
    html: File = None,
    output: File = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ID")] = None,
    skip: Annotated[list[str] | None, typer.Option(metavar="ID")] = None,
    probe: Annotated[bool | None, typer.Option("--probe/--no-probe")] = None,
    loaders: Number = None,
    steps: Number = None,
    go_on: Annotated[bool | None, typer.Option("--continue")] = None,
    prove: Annotated[bool | None, typer.Option("--prove")] = None,
    write_patch: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
    scan: Annotated[list[Path] | None, typer.Option(metavar="PATH")] = None,
    attach: Annotated[int | None, typer.Option(metavar="PID")] = None,
    explain: Annotated[str | None, typer.Option(metavar="ID", autocompletion=complete_explanation)] = None,
    allow_cuda: Annotated[bool | None, typer.Option("--allow-cuda")] = None,
) -> Flags:
    """Tell what DataLoader workers will do.

    Before the job runs: for a launch as it is (-- COMMAND), any PyTorch data set (--dataset), a data set of
    dsrface (DATA --for ...), or the machine alone. Exit code 1 when a check failed, 3 when there was nothing
    to examine.

    Example:

        dsrface doctor -- python train.py --epochs 90
    """
    flags = locals()
    given = flags.pop("words") or []
    if purpose is not None and len(given) <= 1:
        flags["data"] = Path(given[0]) if given else None
    else:
        flags["launch"] = given or None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in flags.items()}


@command(app, "bench")
def bench(
    what: Annotated[str | None, typer.Argument()] = None,
    *,
    weights: RunOrFile = None,
    rounds: Number = None,
    folder: Folder = None,
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
    source: Annotated[Path | None, typer.Argument(metavar="RUN")] = None,
    *,
    format: Choice = None,
    precision: Choice = None,
    data: Folder = None,
    pixels: Annotated[bool | None, typer.Option("--pixels")] = None,
    out: File = None,
    force: Annotated[bool | None, typer.Option("--force")] = None,
) -> Flags:
    """Write a trained network as one file.

    And prove that the file computes what torch computes; exit code 1 when it does not.

    Example:

        dsrface export runs/dsr16 --format onnx
    """
    return locals()


@command(app, "embed")
def embed(
    images: Annotated[Path | None, typer.Argument(metavar="IMAGES")] = None,
    *,
    weights: RunOrFile = None,
    dsr: RunOrFile = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz")] = None,
    on_bad_image: Choice = None,
    normalize: Annotated[bool | None, typer.Option("--normalize/--no-normalize")] = None,
    workers: NumberOrAuto = None,
    device: Device = None,
) -> Flags:
    """Write the embeddings of a folder of faces.

    The file holds `names` and `embeddings`, float32 [n, 512] or as long as the recogniser has them.

    Example:

        dsrface embed faces/ --weights runs/recogniser --out faces.npz
    """
    return locals()
