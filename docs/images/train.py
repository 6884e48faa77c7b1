"""The data set of the image: it reads its records from one file, opened in `__init__`."""

import torch
from torch.utils.data import Dataset


class Records(Dataset):
    """Record k is 4096 bytes, all k; right in a loop, wrong in forked workers."""

    def __init__(self) -> None:
        self.file = open("records.bin", "rb")  # noqa: SIM115 - the fault is meant

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> torch.Tensor:
        self.file.seek(4096 * index)
        return torch.frombuffer(bytearray(self.file.read(4096)), dtype=torch.uint8)
