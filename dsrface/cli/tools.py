"""Commands around the pipeline: evaluate, doctor, bench, export, embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.options import Amp, DataArgument, Device, Seed, VlrSize, Workers
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
    protocol: Annotated[
        Literal["tinyface", "scface", "survface", "xqlfw", "lfw", "bin", "ijb"] | None,
        typer.Option(help="DATA is a benchmark in the layout of its archive; measure as it does."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip", help="Add the mirrored face's embedding; native and benchmarks.")
    ] = None,
    dsr: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="DSR: a run folder or a weight file.")
    ] = None,
    dsr_outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Or what `dsrface precompute` made with one.")
    ] = None,
    recogniser: Annotated[
        Path | None,
        typer.Option(metavar="RUN_OR_FILE", help="Frozen recogniser; by default where --finetuned began."),
    ] = None,
    finetuned: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="Recogniser after `dsrface finetune`.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="pairs.txt as LFW has it; else pairs are generated."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="Split to measure on; test by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the report.")] = None,
    bootstrap: Annotated[
        int | None, typer.Option(metavar="N", help="Draws of persons for the intervals; 0 leaves them out.")
    ] = None,
    seed: Seed = None,
    workers: Workers = None,
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
            metavar="[DATA | -- COMMAND...]", help="A data set for --for, or a launch to examine."
        ),
    ] = None,
    *,
    purpose: Annotated[
        Literal["train-dsr", "precompute", "finetune"] | None,
        typer.Option("--for", help="Build the data set as this command does with its defaults."),
    ] = None,
    vlr_size: VlrSize = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET", help="Anybody's data set: package.module:callable or file.py:callable."
        ),
    ] = None,
    dataset_args: Annotated[
        str | None, typer.Option(metavar="JSON", help="Arguments of that callable, an object or a list.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Items a batch.")] = None,
    start_method: Annotated[
        Literal["auto", "fork", "spawn", "forkserver", "all"] | None,
        typer.Option(help="How workers are started; all proves each."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Judge a launch with N workers instead of recommending.")
    ] = None,
    budget_s: Annotated[
        str | None, typer.Option("--budget", metavar="SECONDS", help="Seconds for the whole examination.")
    ] = None,
    step_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Milliseconds the device needs for a batch.")
    ] = None,
    consumer_rate: Annotated[
        float | None, typer.Option(metavar="N", help="Items per second the training step takes.")
    ] = None,
    world_size: Annotated[
        int | None, typer.Option(metavar="N", help="Processes on this machine that load data.")
    ] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Warnings fail too.")] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Also write the JSON report to a file."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Make only this check, or those of a prefix: ds.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Leave out this check or prefix.")
    ] = None,
    probe: Annotated[
        bool | None, typer.Option("--probe/--no-probe", help="Start real workers, or only look.")
    ] = None,
    loaders: Annotated[
        int | None, typer.Option(metavar="N", help="Of a launch: DataLoaders to examine.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Of a launch: training steps to time first.")
    ] = None,
    go_on: Annotated[
        bool | None, typer.Option("--continue", help="Of a launch: let it go on afterwards.")
    ] = None,
    scan: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Read sources, run nothing, find what breaks workers."),
    ] = None,
    attach: Annotated[
        int | None, typer.Option(metavar="PID", help="Say what the loaders of a running job wait for.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="ID", help="Explain a check, or a rule of --scan.")
    ] = None,
    allow_cuda: Annotated[
        bool | None, typer.Option("--allow-cuda", help="Let the data set see CUDA while it is examined.")
    ] = None,
) -> Flags:
    """Tell what DataLoader workers will do.

    Before the job runs: for a launch as it is (-- COMMAND), any PyTorch data set (--dataset), a data set of
    dsrface (DATA --for ...), or the machine alone. Exit code 1 when a check failed, 3 when there was nothing
    to examine.

    Example:

        dsrface doctor -- python train.py --epochs 90
    """
    flags = locals()
    flags["output"] = flags.pop("report_file")
    given = flags.pop("words") or []
    if purpose is not None and len(given) <= 1:
        flags["data"] = Path(given[0]) if given else None
    else:
        flags["launch"] = given or None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in flags.items()}


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
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="Recogniser; by default the judge.")
    ] = None,
    dsr: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="Super-resolves small faces first.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="File to write.")] = None,
    on_bad_image: Annotated[
        Literal["fail", "skip"] | None,
        typer.Option(help="Stop at an unusable picture, or list it and go on."),
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Scale embeddings to length 1, or not.")
    ] = None,
    workers: Workers = None,
    device: Device = None,
) -> Flags:
    """Write the embeddings of a folder of faces.

    The file holds `names` and `embeddings`, float32 [n, 512] or as long as the recogniser has them.

    Example:

        dsrface embed faces/ --weights runs/recogniser --out faces.npz
    """
    return locals()
