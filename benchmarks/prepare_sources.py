"""`dsrface prepare` of many small images as one RecordIO file beside the same images as files.

Drawn noise of 112x112 px, ten images a person. Prints images per second of the whole command, and the memory
of its main process at some shares of the time and at its highest.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

_PER_PERSON = 10
_MIB = 1024**2


def main() -> None:
    """Measure both sources."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="Where to work; needs about 60 kB an image.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dsrface-sources-", dir=options.folder) as name:
        folder = Path(name)
        write_records(folder / "train.rec", options.images)
        write_files(folder / "photos", options.images)
        for source in ("train.rec", "photos"):
            seconds, memory = measure(folder / source, folder / f"{source}-data", options.workers)
            rate = round(options.images / seconds, 1)
            row = {"source": source, "images": options.images, "images_per_s": rate, "mib": memory}
            print(json.dumps(row), flush=True)


def images(num: int) -> Iterator[tuple[int, bytes]]:
    """Yield the person's number and a JPEG for each image."""
    rng = np.random.default_rng(0)
    for number in range(num):
        small = Image.fromarray(rng.integers(0, 256, (14, 14, 3), np.uint8))
        buffer = io.BytesIO()
        small.resize((112, 112), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
        yield number // _PER_PERSON, buffer.getvalue()


def write_records(path: Path, num: int) -> None:
    """Write `train.rec` and `train.idx`, without identity records."""
    with path.open("wb") as records, path.with_suffix(".idx").open("w", encoding="utf-8") as index:
        for number, (person, data) in enumerate(images(num)):
            payload = struct.pack("<IfQQ", 0, float(person), number, 0) + data
            index.write(f"{number}\t{records.tell()}\n")
            records.write(
                struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)
            )


def write_files(folder: Path, num: int) -> None:
    """Write one file an image, in a folder a person."""
    for number, (person, data) in enumerate(images(num)):
        path = folder / f"id_{person:06d}" / f"{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def measure(source: Path, data: Path, workers: int) -> tuple[float, dict[str, int]]:
    """Return the seconds of one `dsrface prepare`, and its memory in MiB by share of the time."""
    command = [sys.executable, "-m", "dsrface", "prepare", str(source), str(data), "--vlr-sizes", "16"]
    command += ["--workers", str(workers), "--json"]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    assert process.stderr is not None
    seen: list[int] = []
    while process.poll() is None:
        try:
            seen.append(watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    if process.wait():
        raise SystemExit(process.stderr.read())
    seconds = time.monotonic() - start
    memory = {f"{share} %": seen[len(seen) * share // 100] // _MIB for share in (10, 30, 50, 70, 90)}
    return seconds, memory | {"highest": max(seen) // _MIB}


if __name__ == "__main__":
    main()
