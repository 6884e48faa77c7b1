"""Every table of docs/results.md, from photos to figures, by one command.

    python benchmarks/results.py WORK SET... --mobileface mobileface.json --write docs/results.md

Each SET is a folder of 112x112 faces, one folder per person. Trains what the tables compare with the
command line alone; measures PSNR by set, and EER by recognisers that others trained: the judge (an extra) and
MobileFaceNet (a file). Runs stay in WORK, and what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import other_networks
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

# isort: split
from dsrface.commands.evaluate.figures import Scored, score_cells
from dsrface.commands.evaluate.images import Measured, Networks, measure
from dsrface.commands.evaluate.result import BICUBIC, DSR, HR
from dsrface.data.layout import FaceSplit, open_data
from dsrface.data.pairs import all_pairs
from dsrface.engine.backends import MirrorEnsemble
from dsrface.metrics.bootstrap import draw_persons, estimate, mean_draws
from dsrface.models import judge
from dsrface.models.weights import load_dsr, load_recogniser
from dsrface.runtime.devices import choose_device

BEGIN, END = "<!-- Written by benchmarks/results.py -->", "<!-- End -->"
NUM_DRAWS = 1000
QUICK = ["--workers", "0", "--set", "engine.tensorboard=false", "--set", "engine.keep_checkpoints=1"]


@dataclass(frozen=True)
class Row:
    """What a network gives on the test persons.

    Args:
        gains: PSNR less bicubic's of each image, in dB.
        scored: Verification by each recogniser.
        multiply_adds: Of the network, for one image.
    """

    gains: NDArray[np.float64]
    scored: Scored
    multiply_adds: int


@dataclass(frozen=True)
class Network:
    """What a row of the tables is about.

    Args:
        preset: Of `train-dsr`, or one of `other_networks`, which are trained as `tiny` is.
        size: Side of the VLR images, in pixels.
        epochs: Asked for; None leaves them to the preset.
    """

    preset: str
    size: int
    epochs: int | None = None

    @classmethod
    def parse(cls, text: str) -> Network:
        """Return the network of `PRESET:SIZE` or `PRESET:SIZE:EPOCHS`."""
        preset, size, *epochs = text.split(":")
        return cls(preset, int(size), *map(int, epochs))

    @property
    def title(self) -> str:
        """Return its name in a table."""
        name = self.preset if self.preset in other_networks.LEARNING_RATES else f"`{self.preset}`"
        return f"{name}, {self.size} px" + (f", {self.epochs} epochs" if self.epochs else "")

    @property
    def flags(self) -> list[object]:
        """Return what makes `train-dsr` train it."""
        flags: list[object] = ["--vlr-size", self.size]
        if self.epochs:
            flags += ["--epochs", self.epochs]
        rate = other_networks.LEARNING_RATES.get(self.preset)
        if rate is None:
            return [*flags, "--preset", self.preset]
        return [
            *flags,
            "--preset",
            "tiny",
            "--set",
            f"model.arch={self.preset}",
            "--set",
            f"optim.lr={rate:g}",
        ]


class Study:
    """The data, the recognisers and the runs of one call.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.data = self.work / "data"
        if not (self.data / "dataset.json").exists():
            photos = self.work / "photos"
            lists = shutil.ignore_patterns("*.txt", "*.csv")
            for source in options.sets:
                shutil.copytree(source, photos, dirs_exist_ok=True, ignore=lists)
            sizes = ",".join(sorted({str(network.size) for network in options.networks}))
            call("prepare", photos, self.data, "--vlr-sizes", sizes)
        self.split: FaceSplit = open_data(self.data).split("test")
        self.persons = self.split.labels.numpy()
        self.counts = draw_persons(len(self.split.persons), num_draws=NUM_DRAWS, seed=0)
        self.recognisers = {"dlib (the judge)": Path(judge.JUDGE)} if judge.is_available() else {}
        if options.mobileface is not None:
            self.recognisers["MobileFaceNet"] = options.mobileface

    def train(self, network: Network, seed: int, *more: object, name: str = "") -> Path:
        """Return the run folder of a network, trained unless it is there."""
        run: Path = self.work / f"{name or network.preset}{network.size}-{network.epochs or 'auto'}-{seed}"
        words = ["train-dsr", self.data, *network.flags, "--seed", seed, "--run", run, *QUICK, *more]
        if not (run / "run.json").exists():
            call(*words)
        elif json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] != "done":
            call(*words, "--resume")
        return run

    def measure(self, run: Path, size: int, *, is_mirrored: bool = False) -> Row:
        """Return the figures of a run on the test persons."""
        device = choose_device("cpu")
        loaded = load_dsr(run)
        if is_mirrored:
            loaded = replace(loaded, model=MirrorEnsemble(loaded.model))
        recognisers = {name: load_recogniser(path) for name, path in self.recognisers.items()}
        networks = Networks(loaded, None, recognisers)
        measured: Measured = measure(
            self.split,
            networks,
            vlr_size=size,
            batch_size=64,
            num_workers=0,
            device=device,
            emit=lambda _: None,
        )
        pairs = all_pairs(self.persons, max_pairs=200_000, seed=0)
        scored = score_cells(measured, pairs, None, persons=self.persons, counts=self.counts, fars=())
        gains = measured.psnr_db[DSR] - measured.psnr_db[BICUBIC]
        return Row(gains, scored, count_multiply_adds(loaded.model, size))

    def gain(self, rows: list[Row], persons: set[str] | None = None) -> str:
        """Return the mean gain over seeds and images; of all persons with interval and range of the seeds."""
        names = [self.split.persons[label] for label in self.persons]
        chosen = np.array([persons is None or name in persons for name in names])
        values = np.mean([row.gains for row in rows], axis=0)[chosen]
        if persons is not None:
            return f"{values.mean():+.2f}"
        each = [float(row.gains.mean()) for row in rows]
        spread = f", seeds {min(each):+.2f} to {max(each):+.2f}" if len(each) > 1 else ""
        drawn = mean_draws(values, self.persons, self.counts)
        return with_interval(float(values.mean()), drawn, len(self.split.persons), "+.2f") + spread

    def pixels(self, table: dict[str, list[Row]]) -> str:
        """Return the table of PSNR."""
        sets = {
            source.name: {item.name for item in source.iterdir() if item.is_dir()}
            for source in self.options.sets
        }
        present = set(self.split.persons)
        sets = {name: persons & present for name, persons in sets.items() if persons & present}
        head = ["network", "multiply-adds", *sets, "all [95 % by person]"]
        lines = [
            [
                name,
                f"{rows[0].multiply_adds / 1e6:.0f} M",
                *(self.gain(rows, persons) for persons in sets.values()),
                self.gain(rows),
            ]
            for name, rows in table.items()
        ]
        return markdown(head, lines)

    def identity(self, table: dict[str, list[Row]], teachers: dict[str, str]) -> str:
        """Return the table of EER, HR gallery against VLR probes; a network's own teacher is left out."""
        head = ["network", "recogniser", "HR", "bicubic", "DSR", "DSR over bicubic [95 % by person]"]
        lines = [
            [name, recogniser, *eers(rows, recogniser)]
            for name, rows in table.items()
            for recogniser in self.recognisers
            if teachers.get(name) != recogniser
        ]
        return markdown(head, lines)


def count_multiply_adds(network: torch.nn.Module, size: int) -> int:
    """Return the multiply-adds that an image of `size` pixels takes, as torch counts them."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def draw_chart(table: dict[str, list[Row]], recognisers: list[str], path: Path) -> None:
    """Draw gain and EER of each network over its multiply-adds, means over seeds; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, 1 + len(recognisers), figsize=(4.5 * (1 + len(recognisers)), 4.2), squeeze=False
    )
    for axis, recogniser in zip(axes[0], [None, *recognisers], strict=True):
        for name, rows in table.items():
            cost = rows[0].multiply_adds / 1e6
            gain = float(np.mean([row.gains.mean() for row in rows]))
            value = 100 * mean_eer(rows, ("HR-LR", DSR, recogniser))[0] if recogniser else gain
            axis.plot(cost, value, "o" if name.startswith("`") else "s")
            axis.annotate(name.split(",")[0].strip("`"), (cost, value), (4, 4), textcoords="offset points")
        rows = next(iter(table.values()))
        level = 100 * mean_eer(rows, ("HR-LR", BICUBIC, recogniser))[0] if recogniser else 0.0
        axis.axhline(level, linestyle=":", color="grey")
        axis.annotate(
            "bicubic", (0, level), (4, -12), xycoords=("axes fraction", "data"), textcoords="offset points"
        )
        axis.margins(0.2)
        axis.set_xlim(left=0)
        axis.set_xlabel("multiply-adds for one image, M")
        axis.set_ylabel(f"EER by {recogniser}, %" if recogniser else "PSNR gain over bicubic, dB")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def eers(rows: list[Row], recogniser: str) -> list[str]:
    """Return EERs in percent, means over seeds, and the ratio of the mean EERs with its interval."""
    ceiling = mean_eer(rows, ("HR-HR", HR, recogniser))[0]
    bicubic, bicubic_draws = mean_eer(rows, ("HR-LR", BICUBIC, recogniser))
    dsr, dsr_draws = mean_eer(rows, ("HR-LR", DSR, recogniser))
    ratios = dsr_draws / np.maximum(bicubic_draws, 1e-9)
    shown = [f"{100 * value:.1f} %" for value in (ceiling, bicubic, dsr)]
    return [*shown, with_interval(dsr / max(bicubic, 1e-9), ratios, rows[0].scored.num_persons, ".2f")]


def with_interval(value: float, drawn: NDArray[np.float64], num_persons: int, form: str) -> str:
    """Return a figure with its interval by person, where there are persons enough for one."""
    found = estimate(value, drawn, num_persons=num_persons)
    if found.low is None or found.high is None:
        return f"{value:{form}}"
    return f"{value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def mean_eer(rows: list[Row], key: tuple[str, str, str]) -> tuple[float, NDArray[np.float64]]:
    """Return an EER and its draws, means over seeds."""
    values = [
        cell.eer.value or 0.0
        for row in rows
        for cell in row.scored.cells
        if (cell.protocol, cell.images, cell.recogniser) == key
    ]
    return float(np.mean(values)), np.mean([row.scored.draws[key]["eer"] for row in rows], axis=0)


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """Return a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def call(*words: object) -> None:
    """Run a command of dsrface."""
    command = [sys.executable, other_networks.__file__, *map(str, words), "--quiet"]
    print("$", "dsrface", *command[2:], file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Train, measure, print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="Where data set and runs go.")
    parser.add_argument("sets", type=Path, nargs="+", help="Folders of faces.")
    parser.add_argument("--mobileface", type=Path, help="MobileFaceNet, a graph model.")
    parser.add_argument(
        "--networks",
        type=Network.parse,
        nargs="+",
        default=[Network("tiny", size) for size in (16, 24, 32)],
        help="PRESET:SIZE, trained as the preset says, or PRESET:SIZE:EPOCHS.",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--identity-epochs", type=int, default=20, help="Of the trial of the identity loss.")
    parser.add_argument("--identity-seeds", type=int, default=3, help="0 leaves the trial out.")
    parser.add_argument("--write", type=Path, help="Page whose marked part is replaced; else it is printed.")
    parser.add_argument(
        "--chart", type=Path, help="Image of gain and EER over multiply-adds; needs matplotlib."
    )
    options = parser.parse_args()
    study = Study(options)
    table: dict[str, list[Row]] = {}
    for network in options.networks:
        runs = [study.train(network, seed) for seed in range(options.seeds)]
        table[network.title] = [study.measure(run, network.size) for run in runs]
        mirrored = [study.measure(run, network.size, is_mirrored=True) for run in runs]
        table[f"{network.title}, self-ensemble"] = mirrored
    if options.chart is not None:
        plain = {name: rows for name, rows in table.items() if "self-ensemble" not in name}
        draw_chart(plain, list(study.recognisers), options.chart)
    parts = [facts(study, options), study.pixels(table), study.identity(table, {})]
    if options.mobileface is not None and options.identity_seeds:
        parts += identity_trial(study, options)
    text = "\n\n".join(parts)
    if options.write is None:
        print(text)
        return
    page = options.write.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    options.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def facts(study: Study, options: argparse.Namespace) -> str:
    """Return what the tables were made of."""
    data = open_data(study.data)
    counts = ", ".join(
        f"{name} {len(split)} images of {len(split.persons)} persons" for name, split in data.splits.items()
    )
    return (
        f"{len(options.sets)} sets: {counts}. Seeds: {options.seeds}; "
        "PSNR gain over bicubic in dB on the test persons; EER of an HR gallery against VLR probes, by "
        "recognisers that were trained by others on other people."
    )


def identity_trial(study: Study, options: argparse.Namespace) -> list[str]:
    """Return the trial of the identity loss: equal steps with and without it, judged by who did not teach."""
    epochs, seeds, size = options.identity_epochs, range(options.identity_seeds), options.networks[0].size
    network = Network("tiny", size, epochs)
    teacher = ["--identity-weights", options.mobileface]
    plain = [study.train(network, seed, name="pixels") for seed in seeds]
    taught = [study.train(network, seed, *teacher, name="identity") for seed in seeds]
    names = ["pixel loss alone", "and identity loss, MobileFaceNet as teacher"]
    table = dict(
        zip(names, ([study.measure(run, size) for run in runs] for runs in (plain, taught)), strict=True)
    )
    words = (
        f"The identity loss at its default weight against the pixel loss alone, {size} px, epochs: {epochs} "
        f"each, seeds: {options.identity_seeds}; the teacher does not judge its pupil:"
    )
    return [words, study.pixels(table), study.identity(table, {names[1]: "MobileFaceNet"})]


if __name__ == "__main__":
    main()
