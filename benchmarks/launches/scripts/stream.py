"""An IterableDataset that shares its files among the workers; torchdata's loader where it is installed."""

import contextlib

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

with contextlib.suppress(ImportError):
    from torchdata.stateful_dataloader import StatefulDataLoader as DataLoader


class Stream(IterableDataset):
    def __init__(self, shards=16, rows=500):
        self.shards = shards
        self.rows = rows

    def __iter__(self):
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for shard in range(first, self.shards, step):
            for row in range(self.rows):
                yield torch.full((64,), float(shard)), row % 4


def main():
    model = nn.Linear(64, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    for x, y in DataLoader(Stream(), batch_size=64, num_workers=2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
