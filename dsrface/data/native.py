"""The Dataset of low-resolution photos, which have no HR twins: each is its own twin, enlarged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from dsrface.data.datasets import Sample, as_tensor
from dsrface.data.decode import at_size, read_image, walk_images
from dsrface.data.folders import HIGH_FOLDER
from dsrface.data.layout import FaceSplit
from dsrface.types import HIGH_SIZE_PX


class NativeDataset(Dataset[Sample]):
    """Native faces of one split.

    Args:
        split: Names and labels.
        folder: Folder of the images, such as DSR outputs; None takes each where the split has it.
        is_enlarged: Give inputs of 112x112 (Pillow's bicubic): faces of several sizes then fit into a batch.
    """

    def __init__(self, split: FaceSplit, *, folder: Path | None = None, is_enlarged: bool = True) -> None:
        self.names = split.names
        self.labels = split.labels
        self.is_enlarged = is_enlarged
        own = [split.root / name for name in (HIGH_FOLDER, *split.low_folders.values())]
        self.folders = [folder] if folder is not None else [place for place in own if place.is_dir()]
        self._places = _places(split, self.folders)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return a sample; `high` is the face itself at 112x112.

        Args:
            key: Index, or (epoch, index).

        Raises:
            ImageError: an image is missing or damaged.
        """
        index = key[1] if isinstance(key, tuple) else int(key)
        image = read_image(self.folders[int(self._places[index])] / self.names[index])
        high = at_size(image, HIGH_SIZE_PX)
        inputs = high if self.is_enlarged else image
        return Sample(as_tensor(inputs), as_tensor(high), int(self.labels[index]), index)


def _places(split: FaceSplit, folders: list[Path]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the position of the folder of each face."""
    places = np.zeros(len(split), np.uint8)
    if len(folders) > 1:
        found = {name: number for number, folder in enumerate(folders) for name in walk_images(folder)}
        places[:] = [found.get(name, 0) for name in split.names]
    return places
