"""The commands of the pipeline, in the order in which people run them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dsrface.cli.execute import Flags, command
from dsrface.cli.options import (
    Amp,
    DataArgument,
    Device,
    Preset,
    Resume,
    RunDir,
    Seed,
    VlrSize,
    Workers,
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
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for data, runs and report.")] = None,
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
    source: Annotated[
        Path | None, typer.Argument(metavar="SOURCE", help="Folder of photos, or .rec file.")
    ] = None,
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Data set folder to make.")] = None,
    *,
    vlr_sizes: Annotated[
        str | None, typer.Option(metavar="16,24,32", help="Low-resolution sizes to make, in pixels.")
    ] = None,
    align: Annotated[
        str | None, typer.Option(metavar="auto|none|resize|FILE", help="Where the five landmarks come from.")
    ] = None,
    faces: Annotated[
        Literal["largest", "central", "refuse"] | None,
        typer.Option(help="Which of several faces in a photo is taken."),
    ] = None,
    persons: Annotated[
        str | None,
        typer.Option(metavar="auto|LEVEL|PATTERN|FILE", help="How it is told whose a photo is."),
    ] = None,
    split_from: Annotated[
        str | None,
        typer.Option(metavar="auto|none|FILE", help="Where a split that is given already comes from."),
    ] = None,
    native: Annotated[
        bool | None, typer.Option("--native", help="Low-resolution faces without HR twins.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="0.8,0.1,0.1", help="Shares of persons in train, val and test.")
    ] = None,
    degradation: Annotated[
        Literal["classic", "realistic"] | None,
        typer.Option(help="One bicubic kernel, or blur, noise and JPEG as well."),
    ] = None,
    seed: Seed = None,
    workers: Workers = None,
    on_bad_image: Annotated[
        Literal["skip", "fail"] | None, typer.Option(help="List unusable photos, or stop at the first.")
    ] = None,
) -> Flags:
    """Turn photos into a data set.

    Aligns, crops to 112x112, makes low-resolution twins and splits by person. SOURCE has one folder per
    person, or flat `<person>_<rest>.png` files, or is a RecordIO file; --persons tells other layouts.

    Example:

        dsrface prepare photos/ data/ --vlr-sizes 16,24
    """
    flags = locals()
    sizes, shares = comma_numbers(vlr_sizes, "--vlr-sizes"), comma_numbers(split, "--split")
    return flags | {"vlr_sizes": sizes, "split": shares}


@command(app, "train-dsr")
def train_dsr(
    data: DataArgument = None,
    *,
    vlr_size: VlrSize = None,
    run: RunDir = None,
    preset: Preset = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images per optimiser step.")] = None,
    workers: Workers = None,
    identity_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Recogniser whose embedding the output must keep."),
    ] = None,
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
    weights: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="DSR run folder or weight file.")
    ] = None,
    vlr_size: VlrSize = None,
    input: Annotated[
        Path | None, typer.Option(metavar="VLR_DIR", help="Folder of VLR images, instead of a data set.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the outputs of --input go.")
    ] = None,
    format: Annotated[
        Literal["cache", "png"] | None, typer.Option(help="Packed shards, or one file an image.")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(metavar="auto|N", help="Images a forward pass; auto measures.")
    ] = None,
    variants: Annotated[
        int | None,
        typer.Option(metavar="K", help="Variants of each image; those after the first are augmented."),
    ] = None,
    verify: Annotated[
        bool | None, typer.Option("--verify", help="Only check a finished output, every byte of it.")
    ] = None,
    force: Annotated[
        bool | None, typer.Option("--force", help="Throw away what other weights or settings have made.")
    ] = None,
    workers: Workers = None,
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
    dsr_outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Train on what `dsrface precompute` wrote.")
    ] = None,
    live: Annotated[
        Path | None, typer.Option(metavar="RUN_OR_FILE", help="Run this DSR on every batch, on the device.")
    ] = None,
    no_dsr: Annotated[
        bool | None, typer.Option("--no-dsr", help="Train on bicubic up-sampling, without a DSR.")
    ] = None,
    hr_only: Annotated[
        bool | None, typer.Option("--hr-only", help="Train on the HR images: makes a starting recogniser.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(metavar="NAME", help="Recogniser to start from.")] = None,
    backbone_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Starting weights; without them training starts from scratch."),
    ] = None,
    head: Annotated[str | None, typer.Option(metavar="NAME", help="Margin loss of the classifier.")] = None,
    stage1_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs that train the head alone.")
    ] = None,
    stage2_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs that train trunk and head.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images per optimiser step.")] = None,
    workers: Workers = None,
    resident: Annotated[
        Literal["auto", "always", "never"] | None,
        typer.Option(help="Keep the packed cache on a CUDA device; auto: when it fits."),
    ] = None,
    write_through: Annotated[
        bool | None,
        typer.Option("--write-through", help="With --live: cache the outputs of the first epoch."),
    ] = None,
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
