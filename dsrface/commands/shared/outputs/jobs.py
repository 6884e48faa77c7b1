"""The output folders of one run: what is read, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.shared.early import check_input_folder
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.cache.table import hash_inputs, stat_sha256
from dsrface.data.decode import walk_images
from dsrface.data.degrade import Degradation
from dsrface.data.layout import FaceSplit, open_data
from dsrface.data.names import PackedStrings
from dsrface.runtime.resources import effective_cores


@dataclass(frozen=True)
class Inputs:
    """What tells whether outputs are stale.

    Args:
        hashes: uint8 [N, 16], of each image's file.
        stats: Per part, a hash over size and time of its files.
    """

    hashes: NDArray[np.uint8]
    stats: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One output folder: all splits that share it.

    Args:
        low_dir: Folder of the VLR images.
        outputs_dir: Where the outputs go.
        parts: Name and images of each split.
        high_dir: Folder of the HR twins; None for a bare folder.
        hr_column_dir: Where a cache keeps them.
        degradation: How VLR images are made from HR ones; None when unknown.
    """

    low_dir: Path
    outputs_dir: Path
    parts: tuple[tuple[str, PackedStrings], ...]
    high_dir: Path | None = None
    hr_column_dir: Path | None = None
    degradation: Degradation | None = None

    def folders(self, format: str) -> list[Path]:
        """Return the folders that a format writes to: a cache keeps the HR faces as well."""
        if format == "png" or self.hr_column_dir is None:
            return [self.outputs_dir]
        return [self.outputs_dir, self.hr_column_dir]

    def inputs(self, source: Path) -> Inputs:
        """Hash the images of one of the folders."""
        hashes = hash_inputs(source, self.names, num_threads=num_threads())
        return Inputs(hashes, {name: stat_sha256(source, names) for name, names in self.parts})

    @property
    def names(self) -> PackedStrings:
        """All images, in the order of the parts."""
        return PackedStrings.from_list(name for _, part in self.parts for name in part)


def make_jobs(config: PrecomputeConfig, size_px: int) -> list[Job]:
    """Return one job for each output folder of a data set, or the one of a bare folder.

    Args:
        config: What to run over.
        size_px: Side of the VLR images.

    Raises:
        DataError: no such folder, or nothing in it.
    """
    if config.data is None:
        assert config.input is not None
        assert config.output is not None
        check_input_folder(config.input)
        names = PackedStrings.from_list(walk_images(config.input))
        return [Job(config.input, config.output, (("", names),))]
    data = open_data(config.data)
    by_folder: dict[Path, list[FaceSplit]] = {}
    for whole in data.splits.values():
        if data.is_native and size_px not in whole.low_folders:
            continue
        split = whole.at(size_px) if data.is_native else whole
        by_folder.setdefault(split.outputs_dir(size_px), []).append(split)
    return [
        Job(
            splits[0].low_dir(size_px),
            folder,
            tuple((split.name, split.names) for split in splits),
            None if data.is_native else splits[0].high_dir,
            None if data.is_native else splits[0].hr_column_dir,
            data.degradation(size_px),
        )
        for folder, splits in by_folder.items()
    ]


def num_threads() -> int:
    """Return how many threads read, hash or encode."""
    return max(1, min(8, effective_cores().effective))
