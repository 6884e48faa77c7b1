"""A Dataset that opens its file in `__init__`: forked workers share the file's position."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SIZE = 64


class Records(Dataset):
    def __init__(self, path):
        self.file = open(path, "rb")

    def __len__(self):
        return 3000  # the rest is for validation

    def __getitem__(self, index):
        self.file.seek(index * SIZE)
        time.sleep(0.002)  # a disk or a network
        record = bytearray(self.file.read(SIZE))
        return torch.frombuffer(record, dtype=torch.uint8).float() / 255, index % 10


def make_dataset():
    torch.randint(0, 256, (4000, SIZE), dtype=torch.uint8).numpy().tofile("records.bin")
    return Records("records.bin")


def main():
    torch.manual_seed(0)
    loader = DataLoader(make_dataset(), batch_size=32, shuffle=True)
    model = nn.Linear(SIZE, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(10):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
