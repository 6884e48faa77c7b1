"""A plain loop at top level, without a main guard."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Waves(Dataset):
    def __len__(self):
        return 2000

    def __getitem__(self, index):
        x = torch.linspace(0, 6.28, 256) * (1 + index % 7)
        return torch.sin(x), index % 7


model = nn.Linear(256, 7)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = DataLoader(Waves(), batch_size=32, shuffle=True)
for epoch in range(50):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.3f}")
