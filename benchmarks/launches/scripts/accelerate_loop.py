"""A loop of accelerate, launched by `accelerate launch`."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    def __len__(self):
        return 3000

    def __getitem__(self, index):
        return torch.rand(128, generator=torch.Generator().manual_seed(index)), index % 3


def main():
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(128, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(Points(), batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(20):
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(x), y))
            optimizer.step()


if __name__ == "__main__":
    main()
