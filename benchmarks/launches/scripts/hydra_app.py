"""A hydra application with a structured configuration."""

from dataclasses import dataclass, field

import hydra
import torch
from hydra.core.config_store import ConfigStore
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Data:
    batch_size: int = 32
    num_workers: int = 0


@dataclass
class Config:
    data: Data = field(default_factory=Data)
    lr: float = 0.01
    epochs: int = 20


ConfigStore.instance().store(name="config", node=Config)


class Tables(Dataset):
    def __len__(self):
        return 3000

    def __getitem__(self, index):
        return torch.arange(100).roll(index).float(), float(index % 5)


@hydra.main(version_base=None, config_name="config")
def main(cfg):
    loader = DataLoader(Tables(), cfg.data.batch_size, shuffle=True, num_workers=cfg.data.num_workers)
    model = nn.Linear(100, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr)
    for _ in range(cfg.epochs):
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x)[:, 0] / 1e4, y.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
