"""Low-rank adapters: a path beside the layers that HR faces do not take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dsrface.errors import UsageError
from dsrface.models.adapters import AdaptedLayer, adapter_parameters, add_adapters, high_path


def disturbed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in adapter_parameters(network):
            parameter.normal_(std=0.1)
    return network


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),  # one channel a group: nothing to be low-rank
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(96, 5),
    ).eval()


def test_adapters_start_at_zero_and_hr_faces_pass_them_by():
    network, images = small_network(), torch.randn(2, 3, 8, 8)
    before = network(images)
    weights = add_adapters(network, rank=2)
    assert len(weights) == 4
    assert torch.equal(network(images), before)
    disturbed(network)
    assert not torch.allclose(network(images), before)
    with high_path(network):
        assert torch.equal(network(images), before)
    with high_path(network, is_high=False):
        assert not torch.allclose(network(images), before)
    assert {id(p) for p in network.parameters() if p.requires_grad} == {id(p) for p in weights}


def test_an_adapter_is_a_change_of_low_rank():
    torch.manual_seed(0)
    base = nn.Linear(7, 9)
    layer = AdaptedLayer(base, rank=2)
    disturbed(layer)
    change = layer.up.weight @ layer.down.weight
    assert int(torch.linalg.matrix_rank(change)) == 2
    x = torch.randn(4, 7)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, base.weight + change, base.bias))
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    layer = AdaptedLayer(conv, rank=2)
    disturbed(layer)
    change = torch.einsum("or,rihw->oihw", layer.up.weight[:, :, 0, 0], layer.down.weight)
    images = torch.randn(2, 3, 9, 9)
    wanted = nn.functional.conv2d(images, conv.weight + change, conv.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(images), wanted)


def test_a_network_without_layers_to_adapt_is_refused():
    for network, rank in ((nn.BatchNorm2d(3), 2), (small_network(), 0)):
        with pytest.raises(UsageError) as caught:
            add_adapters(network, rank)
        assert caught.value.id == "no-adapters"
