"""Small caches with known pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsrface.data.cache.build import Decision, PackedColumn, Wanted
from dsrface.data.cache.manifest import HASH_BYTES
from dsrface.data.cache.writer import ColumnWriter
from dsrface.data.layout import FaceSplit, make_split
from dsrface.data.stored import decide

SHAPE = (112, 112, 3)


@dataclass
class Made:
    split: FaceSplit
    outputs: Path
    pixels: dict[str, np.ndarray]  # column -> uint8 [variants, N, 112, 112, 3], in the order of the split


def names_of(count: int) -> list[str]:
    return [f"p{number // 4:03d}/{number % 4}.png" for number in range(count)]


def wanted(
    split: FaceSplit, column: str, *, variants: int = 1, shard_images: int = 16, key=None, inputs=None
) -> Wanted:
    return Wanted(
        column=column,
        shape=SHAPE,
        parts=((split.name, split.names),),
        inputs=np.zeros((len(split), HASH_BYTES), np.uint8) if inputs is None else inputs,
        input_stats={},
        key=key or {"dsr_sha256": "a" * 64},
        augment={"seed": 0},
        num_variants=variants,
        shard_images=shard_images,
        order_seed=0,
        info={},
    )


def fill(writer: ColumnWriter, pixels: np.ndarray, *, limit: int | None = None) -> None:
    for plan in writer.missing()[:limit]:
        with writer.shard(plan) as shard:
            for rows in np.array_split(plan.rows, 2):
                shard.append(pixels[plan.variant, rows])


def decided(folder: Path, wanted: Wanted, *, force: bool = False) -> Decision:
    return decide(PackedColumn(folder, wanted), force=force)


def build(root: Path, count: int, *, variants: int = 1, shard_images: int = 16, seed: int = 0) -> Made:
    split = make_split("train", root / "train", names_of(count), low_folders={16: "vlr_images_16x16"})
    rng = np.random.default_rng(seed)
    pixels = {}
    for folder, column in ((split.outputs_dir(16), "outputs"), (split.hr_column_dir, "hr")):
        pixels[column] = rng.integers(0, 256, (variants, count, *SHAPE), dtype=np.uint8)
        plan = decided(folder, wanted(split, column, variants=variants, shard_images=shard_images)).plan
        writer = ColumnWriter.open(folder, plan)
        fill(writer, pixels[column])
        writer.finish()
    return Made(split, split.outputs_dir(16), pixels)
