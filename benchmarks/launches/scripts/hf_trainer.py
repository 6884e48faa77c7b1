"""A Hugging Face Trainer on a datasets.Dataset."""

import tempfile

import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.EmbeddingBag(1000, 32), nn.Linear(32, 2))

    def forward(self, input_ids, labels):
        logits = self.net(input_ids)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main():
    rows = {"input_ids": [[(n * 7 + k) % 1000 for k in range(64)] for n in range(3000)]}
    rows["labels"] = [n % 2 for n in range(3000)]
    dataset = Dataset.from_dict(rows).with_format("torch")
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=16,
            num_train_epochs=3,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        )
        Trainer(model=Model(), args=args, train_dataset=dataset).train()


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
