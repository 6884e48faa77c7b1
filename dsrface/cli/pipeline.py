"""The commands of the pipeline, in the order in which people run them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.options import (
    Amp,
    Choice,
    DataArgument,
    Device,
    File,
    Folder,
    Number,
    NumberOrAuto,
    Preset,
    Resume,
    RunDir,
    RunOrFile,
    Seed,
    VlrSize,
    comma_numbers,
)
from dsrface.cli.output import Output

app = typer.Typer()


def _show_demo(result: Any, output: Output) -> None:
    from dsrface.cli.evaluate_table import render_evaluation

    render_evaluation(result.evaluation, output.out)


@command(app, "demo", render=_show_demo)
def demo(
    *,
    out: Folder = None,
    seed: Seed = None,
    device: Device = None,
) -> Flags:
    """Run the whole pipeline on drawn faces.

    Minutes on a laptop; needs no data and no network. The faces are drawn, so the figures prove the plumbing,
    not any accuracy on people.

    Example:

        dsrface demo --out demo
    """
    return locals()


@command(app, "prepare")
def prepare(
    source: Annotated[Path | None, typer.Argument(metavar="SOURCE")] = None,
    data: Annotated[Path | None, typer.Argument(metavar="DATA")] = None,
    *,
    vlr_sizes: Annotated[str | None, typer.Option(metavar="16,24,32")] = None,
    align: Annotated[str | None, typer.Option(metavar="auto|none|resize|FILE")] = None,
    faces: Choice = None,
    persons: Annotated[str | None, typer.Option(metavar="auto|LEVEL|PATTERN|FILE")] = None,
    split_from: Annotated[str | None, typer.Option(metavar="auto|none|FILE")] = None,
    native: Annotated[bool | None, typer.Option("--native")] = None,
    high_size: Annotated[int | None, typer.Option(metavar="PX")] = None,
    split: Annotated[str | None, typer.Option(metavar="0.8,0.1,0.1")] = None,
    degradation: Choice = None,
    seed: Seed = None,
    workers: NumberOrAuto = None,
    on_bad_image: Choice = None,
) -> Flags:
    """Turn photos into a data set.

    Aligns, crops to 112x112, makes low-resolution twins and splits by person. SOURCE has one folder per
    person, or flat `<person>_<rest>.png` files, or is a RecordIO file; --persons tells other layouts.

    Example:

        dsrface prepare photos/ data/ --vlr-sizes 16,24
    """
    flags = locals()
    sizes = comma_numbers(vlr_sizes, "--vlr-sizes", "16,24,32")
    shares = comma_numbers(split, "--split", "0.8,0.1,0.1")
    return flags | {"vlr_sizes": sizes, "split": shares}


@command(app, "train-dsr")
def train_dsr(
    data: DataArgument = None,
    *,
    vlr_size: VlrSize = None,
    run: RunDir = None,
    preset: Preset = None,
    epochs: NumberOrAuto = None,
    batch_size: Number = None,
    workers: NumberOrAuto = None,
    identity_weights: File = None,
    resume: Resume = None,
    seed: Seed = None,
    device: Device = None,
    amp: Amp = None,
) -> Flags:
    """Train a super-resolution network.

    From 16, 24 or 32 px to 112x112, validated against bicubic on the same images.

    Example:

        dsrface train-dsr data/ --vlr-size 16 --preset small --run runs/dsr16
    """
    return locals()


@command(app, "precompute")
def precompute(
    data: DataArgument = None,
    *,
    weights: RunOrFile = None,
    vlr_size: VlrSize = None,
    input: Annotated[Path | None, typer.Option(metavar="VLR_DIR")] = None,
    output: Folder = None,
    format: Choice = None,
    batch_size: NumberOrAuto = None,
    variants: Annotated[int | None, typer.Option(metavar="K")] = None,
    verify: Annotated[bool | None, typer.Option("--verify")] = None,
    force: Annotated[bool | None, typer.Option("--force")] = None,
    workers: NumberOrAuto = None,
    device: Device = None,
    amp: Amp = None,
    seed: Seed = None,
) -> Flags:
    """Run a DSR once and keep its outputs.

    Fine-tuning then reads them at the speed of memory. Killed at any moment, the
    same command goes on where it was.

    Example:

        dsrface precompute data/ --weights runs/dsr16
    """
    return locals()


@command(app, "finetune")
def finetune(
    data: DataArgument = None,
    *,
    vlr_size: VlrSize = None,
    dsr_outputs: Folder = None,
    live: RunOrFile = None,
    no_dsr: Annotated[bool | None, typer.Option("--no-dsr")] = None,
    hr_only: Annotated[bool | None, typer.Option("--hr-only")] = None,
    backbone: Choice = None,
    backbone_weights: File = None,
    teacher: RunOrFile = None,
    head: Choice = None,
    stage1_epochs: Number = None,
    stage2_epochs: Number = None,
    batch_size: Number = None,
    workers: NumberOrAuto = None,
    resident: Choice = None,
    write_through: Annotated[bool | None, typer.Option("--write-through")] = None,
    run: RunDir = None,
    preset: Preset = None,
    resume: Resume = None,
    seed: Seed = None,
    device: Device = None,
    amp: Amp = None,
) -> Flags:
    """Fine-tune a recogniser on DSR outputs.

    Give exactly one of --dsr-outputs, --live, --no-dsr and --hr-only.

    Example:

        dsrface finetune data/ --vlr-size 16 --dsr-outputs data/train/dsr_outputs_16x16
    """
    return locals()
