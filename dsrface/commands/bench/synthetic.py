"""Data to measure on: made-up faces in a data set's folders, and packed caches of any size."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dsrface.data.cache.build import PackedColumn, Wanted
from dsrface.data.cache.index import index_bytes
from dsrface.data.cache.manifest import HASH_BYTES, Manifest, Part, Segment, Shard
from dsrface.data.cache.table import Table, names_sha256
from dsrface.data.cache.writer import ColumnWriter
from dsrface.data.decode import write_png
from dsrface.data.folders import low_folder
from dsrface.data.layout import FaceSplit
from dsrface.data.names import PackedStrings
from dsrface.data.stored import MANIFEST, decide
from dsrface.runtime.files import write_bytes, write_json
from dsrface.types import HIGH_SIZE_PX

_SHAPE = (HIGH_SIZE_PX, HIGH_SIZE_PX, 3)
_PER_PERSON = 16


@dataclass(frozen=True)
class BenchData:
    """A split with its cache, and the same images as PNG files for the first of them.

    Args:
        split: All images; those of `png_split` come first.
        outputs: The cache of DSR outputs; the HR column is where the split says.
        png_split: The images that are there as files too.
        png_outputs: Folder of their outputs.
    """

    split: FaceSplit
    outputs: Path
    png_split: FaceSplit
    png_outputs: Path


def make_data(folder: Path, *, num_images: int, num_png: int, vlr_size: int = 16, seed: int = 0) -> BenchData:
    """Make a data set of textured ovals; the same arguments give the same bytes.

    Args:
        folder: Where.
        num_images: Images in the cache.
        num_png: How many of these are PNG files as well.
        vlr_size: Side of the VLR files, in pixels.
        seed: Of the pixels.
    """
    split = make_split(folder, num_images, vlr_size=vlr_size)
    png_split = make_split(folder, min(num_png, num_images), vlr_size=vlr_size)
    png_outputs = folder / "outputs_png"
    outputs = split.outputs_dir(vlr_size)
    writers = [
        _writer(path, column, split) for path, column in ((outputs, "outputs"), (split.hr_column_dir, "hr"))
    ]
    for name in png_split.names:
        high, low, output = draw_triple(name, seed=seed, vlr_size=vlr_size)
        write_png(split.high_dir / name, high)
        write_png(split.low_dir(vlr_size) / name, low)
        write_png(png_outputs / name, output)
    for writer in writers:
        kind = writer.plan.column
        for plan in writer.missing():
            with writer.shard(plan) as shard:
                for rows in np.array_split(plan.rows, max(1, len(plan.rows) // 256)):
                    shard.append(
                        _records(rows, split, kind, seed=seed, vlr_size=vlr_size, num_png=len(png_split))
                    )
        writer.finish()
    return BenchData(split, outputs, png_split, png_outputs)


def make_split(folder: Path, num_images: int, *, vlr_size: int = 16) -> FaceSplit:
    """Return a split of so many images, without a Python list of their names."""
    numbers = np.arange(num_images)
    persons, images = np.divmod(numbers, _PER_PERSON)
    # "p0000012/03.png": fixed width, so that the bytes can be laid out by numpy alone.
    text = np.full((num_images, 15), ord("0"), np.uint8)
    text[:, 0], text[:, 8] = ord("p"), ord("/")
    text[:, 11:] = np.frombuffer(b".png", np.uint8)
    for place in range(7):
        text[:, 7 - place] += ((persons // 10**place) % 10).astype(np.uint8)
    text[:, 10] += (images % 10).astype(np.uint8)
    text[:, 9] += (images // 10).astype(np.uint8)
    offsets = torch.arange(num_images + 1, dtype=torch.int64) * 15
    people = PackedStrings.from_list(f"p{number:07d}" for number in range(int(persons[-1]) + 1))
    return FaceSplit(
        "train",
        folder,
        PackedStrings(torch.from_numpy(text.reshape(-1)), offsets),
        torch.from_numpy(persons.astype(np.int64)),
        people,
        {vlr_size: low_folder(vlr_size)},
    )


def simulate(folder: Path, split: FaceSplit, *, column: str) -> None:
    """Make a cache whose pixels are holes in sparse files: any size, next to no disk."""
    folder.mkdir(parents=True, exist_ok=True)
    size = len(split)
    table = Table(split.names, split.persons, split.labels.numpy(), np.zeros((size, HASH_BYTES), np.uint8))
    plan = Manifest(
        column=column,
        shape=_SHAPE,
        num_images=size,
        num_variants=1,
        shard_images=8192,
        order_seed=0,
        key={},
        table=table.write(folder),
        segments=(Segment(0, size, 0, 1),),
        parts=(Part(split.name, 0, size, names_sha256(split.names)),),
    )
    crc = zlib.crc32(bytes(plan.record_bytes))
    shards = []
    for item in plan.planned_shards():
        index = index_bytes(item.rows, np.full(len(item.rows), crc, np.uint32))
        shard = Shard(item.file, 0, 0, len(item.rows), "0" * 64, hashlib.sha256(index).hexdigest())
        with (folder / item.file).open("wb") as handle:
            handle.truncate(len(item.rows) * plan.record_bytes)
        write_bytes(folder / shard.index_file, index)
        shards.append(shard)
    write_json(folder / MANIFEST, replace(plan, shards=tuple(shards)).to_json())


def draw_triple(
    name: str, *, seed: int, vlr_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return HR, VLR and an up-sampled VLR image that compress about as faces do."""
    rng = np.random.default_rng([seed, *name.encode()])
    coarse = Image.fromarray(rng.integers(40, 216, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((HIGH_SIZE_PX, HIGH_SIZE_PX), Image.Resampling.BICUBIC), np.int16)
    texture = Image.fromarray(rng.integers(0, 24, (56, 56, 3), dtype=np.uint8))
    fine = np.asarray(texture.resize((HIGH_SIZE_PX, HIGH_SIZE_PX), Image.Resampling.BILINEAR), np.int16)
    high = np.clip(smooth + fine - 12, 0, 255).astype(np.uint8)
    low = Image.fromarray(high).resize((vlr_size, vlr_size), Image.Resampling.BICUBIC)
    output = low.resize((HIGH_SIZE_PX, HIGH_SIZE_PX), Image.Resampling.BICUBIC)
    return high, np.asarray(low), np.asarray(output)


def _writer(folder: Path, column: str, split: FaceSplit) -> ColumnWriter:
    inputs = np.zeros((len(split), HASH_BYTES), np.uint8)
    wanted = Wanted(column, _SHAPE, ((split.name, split.names),), inputs)
    return ColumnWriter.open(folder, decide(PackedColumn(folder, wanted), force=False).plan)


def _records(
    rows: NDArray[np.int64], split: FaceSplit, column: str, *, seed: int, vlr_size: int, num_png: int
) -> NDArray[np.uint8]:
    records = np.empty((len(rows), *_SHAPE), np.uint8)
    for place, row in enumerate(rows.tolist()):
        # Beyond the PNG files the pixels are not looked at: the first ones are used again.
        high, _, output = _cached_triple(split.names[row % max(num_png, 1)], seed, vlr_size)
        records[place] = high if column == "hr" else output
    return records


_triples: dict[tuple[str, int, int], tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]] = {}


def _cached_triple(
    name: str, seed: int, vlr_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    key = (name, seed, vlr_size)
    if key not in _triples:
        if len(_triples) > 4096:
            _triples.clear()
        _triples[key] = draw_triple(name, seed=seed, vlr_size=vlr_size)
    return _triples[key]
