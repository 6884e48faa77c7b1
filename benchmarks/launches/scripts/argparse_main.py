"""argparse, functions and a main guard, as in PyTorch's MNIST example; the images are made first."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Photos(Dataset):
    def __init__(self, root):
        self.paths = sorted(Path(root).glob("*.jpg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert("RGB").resize((64, 64))
        return torch.from_numpy(np.asarray(image)).permute(2, 0, 1).float() / 255, index % 10


def train(args, model, loader, optimizer, epoch):
    model.train()
    for step, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data.flatten(1)), target)
        loss.backward()
        optimizer.step()
        if step % args.log_interval == 0:
            print(f"Train Epoch: {epoch} [{step * len(data)}/{len(loader.dataset)}]\tLoss: {loss.item():.6f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--log-interval", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as root:
        rng = np.random.default_rng(0)
        for number in range(args.images):
            pixels = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{root}/{number:05}.jpg")
        loader = DataLoader(Photos(root), batch_size=args.batch_size, shuffle=True)
        model = nn.Linear(3 * 64 * 64, 10)
        optimizer = torch.optim.Adadelta(model.parameters(), lr=args.lr)
        for epoch in range(1, args.epochs + 1):
            train(args, model, loader, optimizer, epoch)


if __name__ == "__main__":
    main()
