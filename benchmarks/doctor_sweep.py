"""Check the doctor's recommendation against an exhaustive sweep of worker counts, on twelve kinds of loads.

    python benchmarks/doctor_sweep.py [--rounds 8] [--window 1.5] [--loads cpu_decode,blocked_io]

For each load the doctor examines the data set as a user would (`dsrface doctor --dataset ... --json`); then
0, 1, 2, 4, 8 workers and the recommended number are timed in interleaved rounds, with the device step where
the load has one. Printed are the medians with their spread and the ratio of the recommended setting to the
best, beside that of the rule of thumb min(8, max(2, cores // 2)). The best is chosen in one half of the
rounds and timed in the other, both ways: the highest of several noisy medians is too high. Two loads have one
core, by affinity. Run it on a quiet machine: on a busy one both sides are noise.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

SWEEP = (0, 1, 2, 4, 8)
GOOD_RATIO = 0.95
# Load -> batch size, device step in milliseconds (0: none).
LOADS = {
    "cpu_decode": (32, 0.0),
    "blocked_io": (32, 0.0),
    "in_memory": (64, 0.0),
    "slow_device": (32, 120.0),
    "tiny_items": (256, 0.0),
    "large_batches": (128, 0.0),
    "uneven_network": (16, 0.0),
    "python_transform": (32, 0.0),
    "files": (32, 0.0),
    "stream": (16, 0.0),
    "one_core": (32, 0.0),
    "one_core_waits": (32, 0.0),
}
ON_ONE_CORE = {"one_core", "one_core_waits"}


class CpuDecode(Dataset[torch.Tensor]):
    """A JPEG of 256 px decoded and reduced to 112 px: a few milliseconds of processor."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "JPEG", quality=90)
        self.jpeg = buffer.getvalue()

    def __len__(self) -> int:
        return 20_000

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.jpeg)).resize((112, 112), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image))


class BlockedIo(Dataset[torch.Tensor]):
    """Four milliseconds of waiting, as for a network disk."""

    def __len__(self) -> int:
        return 20_000

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.004)
        return torch.full((112, 112, 3), index % 255, dtype=torch.uint8)


class InMemory(Dataset[torch.Tensor]):
    """Rows of one tensor."""

    def __init__(self) -> None:
        self.images = torch.randint(0, 255, (2000, 32, 32, 3), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


class TinyItems(Dataset[int]):
    """Numbers: there is nothing to load."""

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> int:
        return index


class LargeBatches(CpuDecode):
    """Decoded images as float32 at 224 px: 77 MB a batch."""

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.jpeg)).resize((224, 224))
        return torch.from_numpy(np.array(image, dtype=np.float32))


class UnevenNetwork(Dataset[torch.Tensor]):
    """Ten milliseconds of waiting in the mean, now and then a hundred."""

    def __len__(self) -> int:
        return 20_000

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.1 if index % 20 == 0 else 0.005)
        return torch.full((112, 112, 3), index % 255, dtype=torch.uint8)


class PythonTransform(Dataset[torch.Tensor]):
    """Some milliseconds that hold the interpreter lock."""

    def __len__(self) -> int:
        return 20_000

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([sum(number * index % 255 for number in range(40_000)) % 255])


class Files(Dataset[torch.Tensor]):
    """PNG files of 64 px in a temporary folder."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        self.files = [str(Path(self.folder.name) / f"{number}.png") for number in range(1000)]
        for file in self.files:
            Image.fromarray(noise).save(file)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(self.files[index])))


class Stream(IterableDataset[torch.Tensor]):
    """A stream that shares its items among workers; each waits three milliseconds."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info is not None else (0, 1)
        for number in range(first, 20_000, step):
            time.sleep(0.003)
            yield torch.full((64, 64), number)  # no two alike


MAKERS: dict[str, type[Dataset[Any]]] = {
    "cpu_decode": CpuDecode,
    "blocked_io": BlockedIo,
    "in_memory": InMemory,
    "slow_device": CpuDecode,
    "tiny_items": TinyItems,
    "large_batches": LargeBatches,
    "uneven_network": UnevenNetwork,
    "python_transform": PythonTransform,
    "files": Files,
    "stream": Stream,
    "one_core": CpuDecode,
    "one_core_waits": BlockedIo,
}


def make(name: str) -> tuple[Dataset[Any], dict[str, int]]:
    """Return a load for `dsrface doctor --dataset`."""
    return MAKERS[name](), {"batch_size": LOADS[name][0]}


def main() -> int:
    """Run the sweep; exit code 1 when a ratio is below 0.95."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--rounds", type=int, default=8, help="at least 2")
    parser.add_argument("--window", type=float, default=1.5, help="seconds a timing takes at least")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of an examination")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    results = []
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    for name in options.loads.split(","):
        own = {min(cores)} if name in ON_ONE_CORE else cores
        if name in ON_ONE_CORE and not hasattr(os, "sched_setaffinity"):
            continue
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, own)
        rule = min(8, max(2, len(own) // 2))
        advice = ask_doctor(name, options.budget)
        chosen = advice["num_workers"]
        rates = sweep(
            name, sorted({*SWEEP, chosen, rule}), advice, rounds=options.rounds, window_s=options.window
        )
        medians = {number: statistics.median(values) for number, values in rates.items()}
        best = max(medians, key=lambda number: medians[number])
        result = {
            "load": name,
            "recommended": chosen,
            "range": advice["range"],
            "confidence": advice["confidence"],
            "best": best,
            "ratio": ratio_to_best(rates, chosen),
            "rule_of_thumb": rule,
            "ratio_of_rule": ratio_to_best(rates, rule),
            "items_per_s": {
                number: {"median": medians[number], "spread": spread(values)}
                for number, values in rates.items()
            },
        }
        results.append(result)
        table = ", ".join(
            f"{n}: {medians[n]:.0f} (+-{100 * spread(values):.0f} %)" for n, values in rates.items()
        )
        print(
            f"{name:<14} recommended {chosen} ({advice['confidence']}), best {best}, "
            f"ratio {result['ratio']:.3f}; rule of thumb {rule}, ratio {result['ratio_of_rule']:.3f}\n"
            f"{'':<14} items/s {table}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    worst = min(result["ratio"] for result in results)
    print(f"worst ratio {worst:.3f} over {len(results)} loads")
    return 0 if worst >= GOOD_RATIO else 1


def ratio_to_best(rates: dict[int, list[float]], number: int) -> float:
    """Return the rate of a number of workers over that of the best, chosen and timed in different rounds.

    Args:
        rates: Items per second of each number of workers, one a round.
        number: One of them.
    """
    ratios = []
    half = len(rates[number]) // 2
    for choosing, timing in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        best = max(rates, key=lambda other: statistics.median(rates[other][choosing]))
        ratios.append(statistics.median(rates[number][timing]) / statistics.median(rates[best][timing]))
    return statistics.fmean(ratios)


def ask_doctor(name: str, budget_s: float) -> dict[str, Any]:
    """Return the doctor's recommendation for a load."""
    words = [sys.executable, "-m", "dsrface", "doctor", "--dataset", f"{__file__}:make", "--json"]
    words += ["--dataset-args", json.dumps([name]), "--budget", str(budget_s)]
    if LOADS[name][1]:
        words += ["--step-ms", str(LOADS[name][1])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    advice: dict[str, Any] = json.loads(done.stdout)["recommendation"]
    return advice


def sweep(
    name: str, numbers: list[int], advice: dict[str, Any], *, rounds: int, window_s: float
) -> dict[int, list[float]]:
    """Return items per second of each number of workers, one a round, rounds in alternating order."""
    dataset, options = make(name)
    batch_size, step_s = options["batch_size"], LOADS[name][1] / 1e3
    streams = {number: stream(dataset, number, batch_size, advice) for number in numbers}
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    for round_index in range(rounds):
        for number in numbers if round_index % 2 == 0 else reversed(numbers):
            batches = streams[number]
            for _ in range(
                number * (advice["prefetch_factor"] or 2) + 1
            ):  # what lies ready is not this window's work
                next(batches)
            begin, count = time.perf_counter(), 0
            while count < 3 or time.perf_counter() - begin < window_s:
                next(batches)
                time.sleep(step_s)
                count += 1
            rates[number].append(count * batch_size / (time.perf_counter() - begin))
    return rates


def stream(dataset: Dataset[Any], num_workers: int, batch_size: int, advice: dict[str, Any]) -> Iterator[Any]:
    """Yield batches without end."""
    prefetch = (advice["prefetch_factor"] or 2) if num_workers else None
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=not isinstance(dataset, IterableDataset),
        num_workers=num_workers,
        prefetch_factor=prefetch,
        persistent_workers=num_workers > 0,
    )
    while True:
        yield from loader


def spread(values: list[float]) -> float:
    """Return the median absolute deviation as a share of the median."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values) / middle


if __name__ == "__main__":
    sys.exit(main())
