"""The training of the image: its data set reads records from one file, opened in `__init__`."""

import torch
from torch.utils.data import DataLoader, Dataset


class Records(Dataset):
    """Record k is 4096 bytes, all k; right in a loop, wrong in forked workers."""

    def __init__(self) -> None:
        self.file = open("records.bin", "rb")  # noqa: SIM115 - the fault is meant

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> torch.Tensor:
        self.file.seek(4096 * index)
        return torch.frombuffer(bytearray(self.file.read(4096)), dtype=torch.uint8)


def main() -> None:
    """Train a little."""
    loader = DataLoader(Records(), batch_size=32, num_workers=4, multiprocessing_context="fork")
    network = torch.nn.Sequential(torch.nn.Linear(4096, 512), torch.nn.ReLU(), torch.nn.Linear(512, 4096))
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(10):
        for records in loader:
            inputs = records.float() / 255
            loss = torch.nn.functional.mse_loss(network(inputs), inputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
