"""The Dataset of pairs: an input image and its HR twin, from folders.

It holds paths, packed names, labels and numbers; never a network, an open file or a tensor on a device. So it
can be pickled to a spawned worker, and any number of workers gives the same samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dsrface.data import draws
from dsrface.data.augment import Geometry
from dsrface.data.decode import ImageU8, read_sized
from dsrface.data.degrade import KINDS, Degradation, degrade
from dsrface.data.layout import FaceSplit


class Sample(NamedTuple):
    """One image and its twin.

    Args:
        inputs: uint8 [S, S, 3] RGB, VLR face or DSR output.
        high: uint8 [H, H, 3] RGB, 112 or 128 px, with the same geometry as `inputs`.
        label: Person, 0-based within the split.
        index: Position in the split.
    """

    inputs: Tensor
    high: Tensor
    label: int
    index: int  # type: ignore[assignment]  # a tuple has a method of that name; it is not needed here


class PairDataset(Dataset[Sample]):
    """Pairs of one split.

    With `augment` and `degradation`, the HR face is moved first and degraded afterwards: turning an image
    that has already been reduced to 16 px costs more than super-resolution gains. Without a known
    degradation, both twins are mirrored together and nothing else.

    Args:
        split: Names, labels and the folder of HR faces.
        inputs: Folder of the input images, with the names of the HR ones: one of the split's VLR folders,
            or else images of the size of the HR faces.
        augment: Geometry of training samples; None leaves them as they are on disk.
        seed: With epoch and index it fixes every draw.
        degradation: How this data set's VLR faces are made; None when unknown or when inputs are DSR outputs.
    """

    def __init__(
        self,
        split: FaceSplit,
        *,
        inputs: Path,
        augment: Geometry | None = None,
        seed: int = 0,
        degradation: Degradation | None = None,
    ) -> None:
        self.names = split.names
        self.labels = split.labels
        self.high_dir = split.high_dir
        self.inputs_dir = inputs
        sizes = (size for size, folder in split.low_folders.items() if split.root / folder == inputs)
        self.high_px = split.high_px
        self.inputs_px = next(sizes, self.high_px)
        self.augment = augment
        self.seed = seed
        self.degradation = degradation

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return a sample.

        Args:
            key: Index, in epoch 0, or (epoch, index).

        Raises:
            ImageError: an image is missing, damaged or of the wrong size.
        """
        epoch, index = key if isinstance(key, tuple) else (0, int(key))
        name = self.names[index]
        high = read_sized(self.high_dir / name, self.high_px)
        inputs, high = self._pair(name, high, epoch, index)
        return Sample(as_tensor(inputs), as_tensor(high), int(self.labels[index]), index)

    def _pair(self, name: str, high: ImageU8, epoch: int, index: int) -> tuple[ImageU8, ImageU8]:
        if self.augment is not None and self.degradation is not None:
            high = self.augment.apply(high, seed=self.seed, epoch=epoch, index=index)
            rng = draws.generator(self.seed, epoch, index, "degrade")
            return degrade(high, self.degradation, rng=rng), high
        inputs = read_sized(self.inputs_dir / name, self.inputs_px)
        if self.augment is not None and self.augment.flips(seed=self.seed, epoch=epoch, index=index):
            return inputs[:, ::-1], high[:, ::-1]
        return inputs, high


class ManySizesDataset(PairDataset):
    """Pairs of one split at a size that the sampler chooses, in one of the degradations, drawn.

    Args:
        split: Names, labels and the folder of HR faces; VLR faces are made of these alone.
        size_px: Side of the inputs where the sampler names none.
        augment: Geometry of the HR face before it is reduced; None leaves it.
        seed: With epoch and index it fixes every draw.
    """

    def __init__(
        self, split: FaceSplit, *, size_px: int, augment: Geometry | None = None, seed: int = 0
    ) -> None:
        super().__init__(split, inputs=split.high_dir, augment=augment, seed=seed)
        self.inputs_px = size_px

    def __getitem__(self, key: int | tuple[int, int] | tuple[int, int, int]) -> Sample:
        """Return a sample; the key may name a size in pixels as well: (epoch, index, size)."""
        epoch, index, size_px = (
            (*key, self.inputs_px)[:3] if isinstance(key, tuple) else (0, key, self.inputs_px)
        )
        high = read_sized(self.high_dir / self.names[index], self.high_px)
        if self.augment is not None:
            high = self.augment.apply(high, seed=self.seed, epoch=epoch, index=index)
        rng = draws.generator(self.seed, epoch, index, "degrade")
        degradation = Degradation(str(rng.choice(KINDS)), size_px)
        low = degrade(high, degradation, rng=rng)
        return Sample(as_tensor(low), as_tensor(high), int(self.labels[index]), index)


def as_tensor(image: ImageU8) -> Tensor:
    """Return the image as a tensor of the same shape, without a copy where it can be."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"]))
