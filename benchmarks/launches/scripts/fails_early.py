"""A script that fails before its loader: the folder that it reads is not there."""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "no_such_folder")
    files = list(root.iterdir())
    for batch in DataLoader(TensorDataset(torch.zeros(len(files), 3))):
        print(batch)


if __name__ == "__main__":
    main()
