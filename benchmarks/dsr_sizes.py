"""One super-resolution network for many sizes beside one for each size, after equal steps.

Prints a Markdown table of PSNR on test faces; the run folders stay, and what is there is not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceData, open_data
from dsrface.data.loaders import make_loader
from dsrface.data.samplers import in_order
from dsrface.engine.inference import gather
from dsrface.metrics.image_quality import psnr_db
from dsrface.models.resize import resize_bicubic
from dsrface.models.weights import load_dsr

_SIZES_PX = (16, 24, 32)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="One folder per person.")
    parser.add_argument("work", type=Path, help="Where data set and runs go.")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    path = options.work / "data"
    if not path.exists():
        call("prepare", options.photos, path)
    data = open_data(path)
    print("| network | 16 px | 24 px | 32 px |\n| --- | --- | --- | --- |", flush=True)
    print_row("bicubic", [measure(data, size, None) for size in _SIZES_PX])
    fixed = [train(options, f"fixed{size}", size) for size in _SIZES_PX]
    print_row(
        "one for each size", [measure(data, size, run) for size, run in zip(_SIZES_PX, fixed, strict=True)]
    )
    many = train(options, "any", 16, "--set", "model.arch=any_size")
    print_row("one for 8 to 48 px", [measure(data, size, many) for size in _SIZES_PX])


def train(options: argparse.Namespace, name: str, size: int, *more: str) -> Path:
    """Train unless it is done; return the run folder."""
    run: Path = options.work / name
    if not run.exists():
        quick = ["--workers", "0", "--set", "engine.tensorboard=false", "--epochs", options.epochs]
        data = options.work / "data"
        call("train-dsr", data, "--vlr-size", size, "--preset", "tiny", "--run", run, *quick, *more)
    return run


def call(*words: object) -> None:
    """Run a command of dsrface."""
    command = [sys.executable, "-m", "dsrface", *map(str, words), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(data: FaceData, size: int, run: Path | None) -> float:
    """Return the mean PSNR in dB of a network's 8-bit outputs on the test faces of a size; None: bicubic."""
    split = data.split("test")
    dataset = PairDataset(split, inputs=split.low_dir(size))
    with make_loader(dataset, in_order(len(split), batch_size=32), num_workers=0) as loader:
        images = gather(loader.epoch(0))
    model = resize_bicubic if run is None else load_dsr(run, vlr_size=size).model
    with torch.inference_mode():
        outputs = torch.cat([to_image_u8(model(to_image01(part))) for part in torch.split(images.inputs, 32)])
    return float(psnr_db(to_image01(outputs), to_image01(images.high)).double().mean())


def print_row(name: str, values: list[float]) -> None:
    """Print a row of the table."""
    print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)


if __name__ == "__main__":
    main()
