"""Make each change that `dsrface doctor` predicts for real, and print by how much the predictions are wrong.

    python benchmarks/doctor_what_if.py [--loads remote,augmented,photos] [--rounds 3] [--json FILE]

Each load is examined once, as it is. Then the changes are made: other numbers of workers, two cores instead
of one by affinity, the data decoded in memory, the images resized offline, a step twice as fast. `remote` and
`augmented` wait for a server of bytes, as for a network disk, and for a sleeping transform: they bear a busy
machine. `photos` decodes JPEG files and needs a quiet one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

BATCH, LARGE, SMALL, NUM_FILES = 8, 448, 112, 64
BYTES_PER_S = 10e6  # of the server
STEP_MS = 150.0
WORST, MEDIAN = 0.20, 0.10


class Augment:
    """A transform that takes some milliseconds, asleep."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the image after a while."""
        time.sleep(self.seconds)
        return image


class Resize:
    """To the size that the network takes."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return it smaller."""
        return image.resize((SMALL, SMALL), Image.Resampling.BICUBIC)


class Photos(Dataset[torch.Tensor]):
    """Images of a server or of encoded bytes in memory.

    Args:
        side: Pixels of the images as they are stored.
        port: Of the server; 0 reads from memory.
        augment_s: What the sleeping transform takes.
        is_decoded: Hold them decoded.
    """

    def __init__(self, side: int, port: int, augment_s: float, *, is_decoded: bool = False) -> None:
        self.side, self.port, self.is_decoded = side, port, is_decoded
        self.transforms: list[Callable[[Image.Image], Image.Image]] = [Resize(), Augment(augment_s)]
        self.encoded = [encoded(side, number, "JPEG") for number in range(NUM_FILES)] if not port else []
        self.decoded = [self.image(number) for number in range(NUM_FILES)] if is_decoded else []

    def __len__(self) -> int:
        return 20_000

    def image(self, number: int) -> Image.Image:
        """Return an image, decoded."""
        data = fetched(self.port, self.side, number) if self.port else self.encoded[number]
        image = Image.open(io.BytesIO(data))
        image.load()
        return image

    def __getitem__(self, index: int) -> torch.Tensor:
        number = index % NUM_FILES
        image = self.decoded[number] if self.is_decoded else self.image(number)
        for transform in self.transforms:
            image = transform(image)
        return torch.from_numpy(np.array(image))


def encoded(side: int, number: int, kind: str) -> bytes:
    """Return an image file of noise that is not all noise."""
    coarse = np.random.default_rng(number).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR).save(buffer, kind)
    return buffer.getvalue()


def fetched(port: int, side: int, number: int) -> bytes:
    """Return the bytes of an image from the server."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{side} {number}\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read()


def serve(server: socket.socket) -> None:
    """Answer requests for images, as slowly as their size says."""
    files: dict[tuple[int, int], bytes] = {}

    def answer(connection: socket.socket) -> None:
        with connection:
            side, number = (int(word) for word in connection.recv(64).split())
            if (side, number) not in files:
                files[side, number] = encoded(side, number, "PPM")
            data = files[side, number]
            time.sleep(len(data) / BYTES_PER_S)
            connection.sendall(data)

    while True:
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


# Load -> port wanted, seconds of the transform.
LOADS = {"remote": (True, 0.02), "augmented": (True, 0.05), "photos": (False, 0.0)}


def make(name: str, port: int, side: int = LARGE, *, is_decoded: bool = False) -> tuple[Any, dict[str, int]]:
    """Return a load for `dsrface doctor --dataset`."""
    is_remote, augment_s = LOADS[name]
    data = Photos(side, port if is_remote else 0, augment_s, is_decoded=is_decoded)
    return data, {"batch_size": BATCH}


def main() -> int:
    """Compare; exit code 1 when a prediction is wrong by more than a fifth, or half of them by a tenth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=40.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        rows = [row for name in options.loads.split(",") for row in compared(name, port, options)]
    finally:
        server.kill()
    errors = [abs(row["predicted"] / row["measured"] - 1) for row in rows]
    inside = sum(row["interval"][0] <= row["measured"] <= row["interval"][1] for row in rows)
    print(
        f"{len(rows)} predictions: median error {statistics.median(errors):.1%}, worst {max(errors):.1%}, "
        f"{inside} within their interval"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if max(errors) <= WORST and statistics.median(errors) <= MEDIAN else 1


def compared(name: str, port: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return predictions for a load beside what was measured."""
    advice = ask_doctor(name, port, options.budget, STEP_MS)
    predicted = {each["change"]: each for each in advice["what_if"]}
    rows = []

    def row(change: str, measure: Callable[[], float], prediction: dict[str, Any]) -> None:
        measured = statistics.median(measure() for _ in range(options.rounds))
        rows.append(
            {
                "load": name,
                "change": change,
                "predicted": prediction["items_per_s"],
                "interval": prediction["interval"],
                "measured": measured,
            }
        )
        error = prediction["items_per_s"] / measured - 1
        print(
            f"{name:<8} {change:<40} {prediction['items_per_s']:8.1f} {measured:8.1f} {error:+.1%}",
            flush=True,
        )

    seen = {window["num_workers"] for window in advice["measurements"]}
    for number in (0, 1, 2, 4, 8):
        if (each := predicted.get(f"num_workers={number}")) is not None and number not in seen:
            row(f"num_workers={number}, not timed before", rate(name, port, number), each)
    for change, more, step_ms in (
        ("decoded data in memory", {"is_decoded": True}, STEP_MS),
        ("images resized offline", {"side": SMALL}, STEP_MS),
        ("a step twice as fast", {}, STEP_MS / 2),
    ):
        each = predicted[change]
        row(
            f"{change}, {each['num_workers']} workers",
            rate(name, port, each["num_workers"], step_ms, **more),
            each,
        )
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        with_more_cores(name, port, options.budget, row)
    return rows


def with_more_cores(name: str, port: int, budget_s: float, row: Callable[..., None]) -> None:
    """Examine on one core, and compare what is said of two with two."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    try:
        advice = ask_doctor(name, port, budget_s, STEP_MS)
    finally:
        os.sched_setaffinity(0, cores[:2])
    [each] = [each for each in advice["what_if"] if each["change"] == "2 cores"]
    row(f"2 cores instead of 1, {each['num_workers']} workers", rate(name, port, each["num_workers"]), each)
    os.sched_setaffinity(0, cores)


def ask_doctor(name: str, port: int, budget_s: float, step_ms: float) -> dict[str, Any]:
    """Return the doctor's recommendation."""
    words = [sys.executable, "-m", "dsrface", "doctor", "--dataset", f"{__file__}:make", "--json"]
    words += [
        "--dataset-args",
        json.dumps([name, port]),
        "--budget",
        str(budget_s),
        "--step-ms",
        str(step_ms),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    advice: dict[str, Any] = json.loads(done.stdout)["recommendation"]
    return advice


def rate(
    name: str, port: int, num_workers: int, step_ms: float = STEP_MS, **change: Any
) -> Callable[[], float]:
    """Return a function that measures items per second, with a step that sleeps."""

    def measure() -> float:
        data, options = make(name, port, **change)
        prefetch = 2 if num_workers else None
        loader = DataLoader(data, options["batch_size"], num_workers=num_workers, prefetch_factor=prefetch)
        batches = iter(loader)
        for _ in range(2 * num_workers + 2):
            next(batches)
        begin, count = time.perf_counter(), 0
        while count < 4 * max(1, num_workers) or time.perf_counter() - begin < 2:
            next(batches)
            time.sleep(step_ms / 1e3)
            count += 1
        return count * options["batch_size"] / (time.perf_counter() - begin)

    return measure


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            print(listening.getsockname()[1], flush=True)
            serve(listening)
    sys.exit(main())
