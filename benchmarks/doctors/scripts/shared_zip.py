"""A Dataset that opens an archive in `__init__`: forked workers share the position in it."""

import time
import zipfile

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Archive(Dataset):
    def __init__(self, path):
        self.archive = zipfile.ZipFile(path)
        self.names = self.archive.namelist()

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        time.sleep(0.002)  # a disk or a network
        record = bytearray(self.archive.read(self.names[index]))
        return torch.frombuffer(record, dtype=torch.uint8).float() / 255, index % 10


def make_dataset():
    with zipfile.ZipFile("records.zip", "w") as archive:
        for number in range(3000):
            record = torch.randint(0, 256, (64,), dtype=torch.uint8)
            archive.writestr(f"{number}.bin", record.numpy().tobytes())
    return Archive("records.zip")


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
