"""Distillation: what the loss is, what is learnt, and what stays as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from dsrface.engine.teacher import Teacher
from dsrface.models.preprocess import network_input
from dsrface.types import Preprocess

BGR = Preprocess(56, (0.5,) * 3, (0.5,) * 3, "BGR")


def recogniser(dim):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, dim))


def test_loss__is_one_minus_the_cosine_in_the_teachers_own_input():
    network = recogniser(512)
    teacher = Teacher(network, BGR)
    assert list(teacher.parameters()) == []
    high, embeddings = torch.rand(3, 3, 112, 112), torch.randn(3, 512, requires_grad=True)
    wanted = network(network_input(high, BGR))
    expected = 1 - functional.cosine_similarity(embeddings, wanted, dim=1).mean()
    loss = teacher(embeddings, high)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert embeddings.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_equal_lengths__need_no_map():
    assert list(Teacher(recogniser(256), BGR, embedding_dim=256).parameters()) == []
    [weight] = Teacher(recogniser(512), BGR, embedding_dim=256).parameters()
    assert weight.shape == (512, 256)


@pytest.mark.parametrize("dim", [128, 256])
def test_other_lengths__are_met_through_a_map_that_learns(dim):
    network = recogniser(dim)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    teacher = Teacher(network, BGR)
    [weight] = teacher.parameters()
    assert weight.shape == (dim, 512)
    assert list(teacher.state_dict()) == ["projection.weight"]
    torch.manual_seed(1)
    high, embeddings = torch.rand(8, 3, 112, 112), torch.randn(8, 512)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = teacher(embeddings, high)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
