"""A LightningModule and a LightningDataModule."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split


class Sentences(Dataset):
    def __init__(self, n=4000):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        tokens = [(index * 7 + k) % 1000 for k in range(64)]
        return torch.tensor(tokens), index % 2


class DataModule(lightning.LightningDataModule):
    def setup(self, stage):
        self.train, self.val = random_split(Sentences(), [3600, 400])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=64)


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.EmbeddingBag(1000, 32), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    trainer = lightning.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), DataModule())
