"""Other loaders on the data of `dsrface bench loader`: LitData, MosaicML Streaming, WebDataset.

`nox -s bench_peers` installs them and runs this file. Every route delivers collated batches of (DSR output,
HR twin, label), shuffled, best of 0 and 2 workers; the ceiling is measured in the same run. Prints the JSON
of `dsrface bench --json`.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsrface.commands.bench.loader import CEILING, endless
from dsrface.commands.bench.measure import Route, Row, interleave, rate
from dsrface.commands.bench.synthetic import BenchData, make_data
from dsrface.data.cache.reader import PackedReader
from dsrface.data.samplers import BatchSampler, EpochOrder

SHAPE = (112, 112, 3)
Opened = Callable[[int], Iterator[Any]]


def main() -> None:
    """Measure whatever is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dsrface-peers-", ignore_cleanup_errors=True) as name:
        rows = measure(Path(name), options)
    json.dump({"schema_version": 1, "results": [asdict(row) for row in rows]}, sys.stdout, indent=2)
    print()


def measure(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Return a row for the ceiling, for our reader and for every peer."""
    data = make_data(folder / "data", num_images=options.images, num_png=64)
    sampler = BatchSampler(EpochOrder(len(data.split), 0), batch_size=options.batch_size)
    reader = PackedReader(data.split, data.outputs, sampler=sampler, kind="mapped")
    images, labels = in_memory(reader, data)
    routes: dict[str, Route] = {
        CEILING: ceiling_route(images, labels, options.batch_size),
        "dsrface packed reader, through the ring": stream_route(lambda: endless(reader.epoch)),
    }
    for name, make in (("LitData", litdata), ("MosaicML Streaming", mosaic), ("WebDataset, raw", webdataset)):
        try:
            opened = make(folder / name.split()[0].strip(",").lower(), images, labels, options.batch_size)
        except ImportError as error:
            print(f"{name}: not installed ({error})", file=sys.stderr)
            continue
        for num_workers in (0, 2):
            routes[f"{name}, {num_workers} workers"] = stream_route(
                lambda opened=opened, num_workers=num_workers: opened(num_workers), warm=8
            )
    return interleave(
        "peers", routes, ceiling=CEILING, unit="pairs/s", rounds=options.rounds, seconds=options.seconds
    )


def in_memory(reader: PackedReader, data: BenchData) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return both columns in the order of the split."""
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    for rows in np.array_split(np.arange(len(data.split)), -(-len(data.split) // reader.sampler.batch_size)):
        batch = reader.gather(rows)
        parts.append((batch.inputs.clone(), batch.high.clone()))
    return [torch.cat(column) for column in zip(*parts, strict=True)], data.split.labels


def ceiling_route(images: list[torch.Tensor], labels: torch.Tensor, size: int) -> Route:
    """Gather from memory into reused buffers."""
    buffers = [torch.zeros((size, *SHAPE), dtype=torch.uint8) for _ in images]
    rng = np.random.default_rng(0)

    def step() -> int:
        index = torch.from_numpy(rng.integers(0, len(labels), size))
        for image, buffer in zip(images, buffers, strict=True):
            torch.index_select(image, 0, index, out=buffer)
        return size

    return lambda seconds: rate(step, seconds)


def stream_route(make: Callable[[], Iterator[Any]], *, warm: int = 2) -> Route:
    """Open a stream, let it get going, measure it, drop it: no workers run while others are measured."""

    def run(seconds: float) -> float:
        stream = make()
        for _ in itertools.islice(stream, warm):
            pass
        return rate(lambda: size_of(next(stream)), seconds)

    return run


def size_of(batch: Any) -> int:
    """Return the number of pairs in a batch of any of the libraries."""
    if hasattr(batch, "labels"):
        return len(batch.labels)
    return len(batch["label"] if isinstance(batch, dict) else batch[-1])


def forever(make: Callable[[], Any]) -> Iterator[Any]:
    """Yield from a loader, epoch after epoch."""
    loader = make()
    while True:
        yield from loader


def litdata(folder: Path, images: list[torch.Tensor], labels: torch.Tensor, size: int) -> Opened:
    """Write and open a LitData dataset of numpy leaves."""
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir(parents=True)
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for row in range(len(labels)):
        writer[row] = {"sr": images[0][row].numpy(), "hr": images[1][row].numpy(), "label": int(labels[row])}
    writer.done()
    writer.merge()

    def opened(num_workers: int) -> Iterator[Any]:
        dataset = StreamingDataset(str(folder), shuffle=True, drop_last=True)
        return forever(lambda: StreamingDataLoader(dataset, batch_size=size, num_workers=num_workers))

    return opened


def mosaic(folder: Path, images: list[torch.Tensor], labels: torch.Tensor, size: int) -> Opened:
    """Write and open a MosaicML Streaming dataset of arrays."""
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    columns = {"sr": "ndarray:uint8:112,112,3", "hr": "ndarray:uint8:112,112,3", "label": "int"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for row in range(len(labels)):
            writer.write(
                {"sr": images[0][row].numpy(), "hr": images[1][row].numpy(), "label": int(labels[row])}
            )

    def opened(num_workers: int) -> Iterator[Any]:
        dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=size)
        return forever(lambda: DataLoader(dataset, batch_size=size, num_workers=num_workers, drop_last=True))

    return opened


def webdataset(folder: Path, images: list[torch.Tensor], labels: torch.Tensor, size: int) -> Opened:
    """Write and open tar files of raw bytes."""
    import webdataset as wds

    folder.mkdir(parents=True)
    count = 0
    for number, rows in enumerate(np.array_split(np.arange(len(labels)), max(2, len(labels) // 1024))):
        count = number
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for row in rows.tolist():
                for suffix, data in (
                    ("sr", images[0][row].numpy().tobytes()),
                    ("hr", images[1][row].numpy().tobytes()),
                    ("label", str(int(labels[row])).encode()),
                ):
                    info = tarfile.TarInfo(f"{row:07d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

    def decode(sample: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray, int]:
        images = [np.frombuffer(sample[key], np.uint8).reshape(SHAPE) for key in ("sr", "hr")]
        return images[0], images[1], int(sample["label"])

    def opened(num_workers: int) -> Iterator[Any]:
        urls = str(folder / f"{{00000..{count:05d}}}.tar")
        dataset = (
            wds.WebDataset(urls, shardshuffle=100).shuffle(2000).map(decode).batched(size, partial=False)
        )
        return forever(lambda: wds.WebLoader(dataset, batch_size=None, num_workers=num_workers))

    return opened


if __name__ == "__main__":
    main()
