"""Two loaders: training, and validation after every epoch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    torch.manual_seed(0)
    x = torch.randn(4000, 32)
    y = (x.sum(1) > 0).long()
    train = DataLoader(TensorDataset(x[:3200], y[:3200]), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(x[3200:], y[3200:]), batch_size=200)
    model = nn.Linear(32, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(100):
        for batch, target in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), target).backward()
            optimizer.step()
        with torch.no_grad():
            correct = sum((model(batch).argmax(1) == target).sum().item() for batch, target in val)
        print(f"epoch {epoch}: {correct / 800:.3f}")


if __name__ == "__main__":
    main()
