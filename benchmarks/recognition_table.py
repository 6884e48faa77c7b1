"""Recognition after equal steps: {bicubic, DSR} x {plain, distilled, adapters} x {frozen, tuned}.

From photos to figures with the command line alone: one data set, one DSR, one recogniser from HR faces, and
for each seed recognisers tuned by equal steps, judged on test persons, HR gallery against VLR probes. The
teacher is the starting recogniser itself, or a given one, which then teaches the start as well. Prints a
Markdown table; the run folders stay, and what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

_JUDGED = ("frozen", "fine-tuned")  # not raw pixels and the judge
_QUICK = ["--set", "engine.tensorboard=false", "--set", "engine.keep_checkpoints=1", "--workers", "0"]


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="One folder per person.")
    parser.add_argument("work", type=Path, help="Where data set, runs and figures go.")
    parser.add_argument("--vlr-size", type=int, default=16)
    parser.add_argument("--split", default="0.8,0.1,0.1", help="Shares of train, val and test persons.")
    parser.add_argument("--teacher", help="A recogniser that `finetune --teacher` takes.")
    parser.add_argument("--anchor-weight", type=float, default=4.0, help="Of the teacher's loss.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--adapter-seeds", type=int, default=3, help="Of those, how many try adapters too.")
    parser.add_argument("--dsr-epochs", type=int, default=60)
    parser.add_argument("--start-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6, help="Of each tuned recogniser.")
    options = parser.parse_args()
    size = ["--vlr-size", str(options.vlr_size)]
    data, work = options.work / "data", options.work
    shares = ["--vlr-sizes", str(options.vlr_size), "--split", options.split]
    make(data / "dataset.json", "prepare", options.photos, data, *shares)
    dsr = work / "dsr"
    make(
        dsr,
        "train-dsr",
        data,
        *size,
        "--preset",
        "tiny",
        "--epochs",
        options.dsr_epochs,
        "--run",
        dsr,
        *_QUICK,
    )
    outputs = data / "train" / f"dsr_outputs_{options.vlr_size}x{options.vlr_size}"
    make(outputs, "precompute", data, "--weights", dsr, "--workers", "0")
    start = work / "start"
    epochs = ["--stage1-epochs", "0", "--stage2-epochs", options.start_epochs]
    taught = teacher(options, options.teacher) if options.teacher else []
    make(start, "finetune", data, *size, "--hr-only", *epochs, *taught, "--run", start, *_QUICK)
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in range(options.seeds):
        tuned = tune(options, seed, data, outputs, start)
        for name, run in tuned.items():
            inputs = ["--dsr", dsr] if name.startswith("DSR") else []
            out = work / f"seed{seed}" / f"{run.name}-figures"
            given = [
                "--recogniser",
                start,
                "--finetuned",
                run,
                "--seed",
                seed,
                "--bootstrap",
                "500",
                "--workers",
                "0",
            ]
            make(out / "evaluation.json", "evaluate", data, *size, *inputs, *given, "--out", out)
            collect(rows, name, out)
    print_table(rows)


def tune(options: argparse.Namespace, seed: int, data: Path, outputs: Path, start: Path) -> dict[str, Path]:
    """Return the tuned recognisers of a seed by the name of their row."""
    inputs: dict[str, list[object]] = {"bicubic": ["--no-dsr"], "DSR": ["--dsr-outputs", outputs]}
    taught = teacher(options, options.teacher or start)
    extras: dict[str, list[object]] = {
        "": ["--set", "anchor.weight=0"],
        "distilled": taught,
        "adapters": [*taught, "--set", "backbone_options.adapter_rank=8"],
    }
    epochs: list[object] = ["--stage1-epochs", "1", "--stage2-epochs", options.epochs, "--seed", seed]
    tuned = {}
    for kind, chosen in inputs.items():
        for extra, more in extras.items():
            if extra == "adapters" and seed >= options.adapter_seeds:
                continue
            name = f"{kind} + {extra}" if extra else kind
            run = options.work / f"seed{seed}" / name.replace(" + ", "-")
            common = ["--vlr-size", options.vlr_size, *chosen, *more, *epochs, "--backbone-weights", start]
            make(run, "finetune", data, *common, "--run", run, *_QUICK)
            tuned[name] = run
    return tuned


def teacher(options: argparse.Namespace, given: object) -> list[object]:
    """Return the flags with which a recogniser learns from a teacher."""
    return ["--teacher", given, "--set", f"anchor.weight={options.anchor_weight:g}"]


def make(result: Path, *words: object) -> None:
    """Run a command unless its result is there."""
    if result.exists():
        return
    command = [sys.executable, "-m", "dsrface", *map(str, words), "--quiet"]
    print("$", "dsrface", *command[3:], file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def collect(rows: dict[str, list[dict[str, Any]]], name: str, out: Path) -> None:
    """Add the HR-LR figures of an evaluation: of the start (frozen) and of the tuned recogniser."""
    kind = "DSR" if name.startswith("DSR") else "bicubic"
    cells = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if (cell["protocol"], cell["images"]) == ("HR-LR", kind) and cell["recogniser"] in _JUDGED:
            is_tuned = cell["recogniser"] == "fine-tuned"
            row = f"{name}, tuned" if is_tuned else f"{kind}, frozen"
            if is_tuned or name == kind:
                rows.setdefault(row, []).append(cell)


def print_table(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Print the mean and the spread over seeds, and each seed's interval by person."""
    print("| input, recogniser | EER, mean of seeds [each with its interval] | AUC |\n| --- | --- | --- |")
    for name, cells in rows.items():
        eer = statistics.fmean(cell["eer"]["value"] for cell in cells)
        auc = statistics.fmean(cell["auc"]["value"] for cell in cells)
        each = "; ".join(interval(cell["eer"]) for cell in cells)
        print(f"| {name} | {100 * eer:.1f} % ({each}) | {auc:.3f} |")


def interval(estimate: dict[str, float]) -> str:
    """Return a share with its interval, in percent."""
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
