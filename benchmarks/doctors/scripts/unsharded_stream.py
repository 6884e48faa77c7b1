"""A stream that does not look at its worker's number: every worker delivers all of it."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __iter__(self):
        for row in range(3000):
            time.sleep(0.002)  # a disk or a network
            yield torch.full((64,), row / 3000), row % 10


def make_dataset():
    return Stream()


def main():
    torch.manual_seed(0)
    loader = DataLoader(make_dataset(), batch_size=32)
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(10):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
