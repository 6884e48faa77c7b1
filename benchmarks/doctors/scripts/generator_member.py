"""A Dataset with a random generator of its own: every worker gets a copy, and all draw the same."""

import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 3000

    def __getitem__(self, index):
        time.sleep(0.002)  # a disk or a network
        noise = self.rng.normal(size=64).astype(np.float32)
        return torch.from_numpy(noise) + index % 10, index % 10


def make_dataset():
    return Noisy()


def main():
    torch.manual_seed(0)
    loader = DataLoader(make_dataset(), batch_size=32, shuffle=True)
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
