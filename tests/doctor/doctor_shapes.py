"""Three data sets as people write them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset


class H5Faces(Dataset):
    """Opens its file in __init__, as most tutorials do."""

    def __init__(self, path):
        self.file = h5py.File(path, "r")
        self.images = self.file["images"]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index])


class Lines(IterableDataset):
    """Reads a text file from start to end, in every worker."""

    def __init__(self, path):
        self.path = path

    def __iter__(self):
        with open(self.path, encoding="utf-8") as handle:
            for line in handle:
                yield torch.tensor(int(line))


def image_folder(root):
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose(
        [v2.PILToTensor(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    )
    return ImageFolder(root, transform)


def write_h5(path: Path):
    with h5py.File(path, "w") as file:
        file["images"] = np.arange(300 * 12, dtype=np.uint8).reshape(300, 12)


def write_images(root: Path):
    for person in ("anna", "ben"):
        (root / person).mkdir(parents=True)
        for number in range(20):
            pixels = np.full((48, 48, 3), number * 5, np.uint8)
            Image.fromarray(pixels).save(root / person / f"{number}.png")
