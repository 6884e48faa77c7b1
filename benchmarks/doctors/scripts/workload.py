"""What loadtune asks to be written for a script: `SCRIPT=NAME loadtune tune workload.py`."""

import importlib
import os
import sys

import torch
from loadtune.workload import Workload
from torch import nn


def train_step(model, optimizer, batch, device):
    x, y = batch
    loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def get_workload():
    sys.path.insert(0, os.getcwd())
    script = importlib.import_module(os.environ["SCRIPT"])
    return Workload(
        name=os.environ["SCRIPT"],
        make_dataset=script.make_dataset,
        make_model=lambda: nn.Linear(64, 10),
        train_step=train_step,
        make_optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    )
