"""A lock that a thread holds most of the time: a forked worker inherits it locked, and waits for ever."""

import threading
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Refreshed(Dataset):
    def __init__(self):
        self.lock = threading.Lock()
        self.offset = 0
        threading.Thread(target=self.refresh, daemon=True).start()

    def refresh(self):
        while True:
            with self.lock:
                time.sleep(0.05)  # asks a server for a new index
            time.sleep(0.005)

    def __len__(self):
        return 3000

    def __getitem__(self, index):
        time.sleep(0.002)  # a disk or a network
        if index % 32 == 0:
            with self.lock:
                self.offset = index
        return torch.full((64,), index / 3000), index % 10


def make_dataset():
    return Refreshed()


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
