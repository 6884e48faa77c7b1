"""Low-rank adapters for small faces: next to each layer a path of its own, which HR faces do not take.

The layers themselves stay as they are: HR faces keep their embeddings to the bit, and a gallery need not be
enrolled again.

Source:
    Hu et al. 2021, LoRA, arXiv:2106.09685.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from dsrface.errors import UsageError

MAX_RANK = 1024


class AdaptedLayer(nn.Module):
    """A linear layer or convolution plus a low-rank one, which starts at zero.

    Args:
        base: The layer; frozen in place.
        rank: Width between the two halves of the adapter; at most that of the layer.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.is_on = True
        self.down: nn.Module
        self.up: nn.Linear | nn.Conv2d
        if isinstance(base, nn.Linear):
            rank = min(rank, base.in_features, base.out_features)
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        else:
            rank = min(rank, base.in_channels, base.out_channels)
            self.down = nn.Conv2d(
                base.in_channels,
                rank,
                base.kernel_size,  # type: ignore[arg-type]
                base.stride,  # type: ignore[arg-type]
                base.padding,  # type: ignore[arg-type]
                base.dilation,  # type: ignore[arg-type]
                bias=False,
            )
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    @property
    def weight(self) -> Tensor:
        """The layer's own weight; networks look there for device and number format."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, with the adapter's added when that is on."""
        out: Tensor = self.base(x)
        return out + self.up(self.down(x)) if self.is_on else out


def add_adapters(network: nn.Module, rank: int) -> list[nn.Parameter]:
    """Freeze a network and put an adapter next to each linear layer and ungrouped convolution, in place.

    Args:
        network: A recogniser.
        rank: Of each adapter, from 1.

    Returns:
        The weights of the adapters.

    Raises:
        UsageError: the network has no such layer, or the rank is out of range.
    """
    layers = [
        (module, name, child)
        for module in network.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Linear) or (isinstance(child, nn.Conv2d) and child.groups == 1)
    ]
    if not layers or not 1 <= rank <= MAX_RANK:
        raise UsageError(
            f"Adapters of rank {rank} cannot be added to {len(layers)} layers.",
            id="no-adapters",
            hint=f"Ranks go from 1 to {MAX_RANK}; a network needs linear layers or convolutions.",
        )
    network.requires_grad_(False)
    for module, name, child in layers:
        setattr(module, name, AdaptedLayer(child, rank).to(child.weight.device))
    return adapter_parameters(network)


def adapter_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a network's adapters; none when it has none."""
    return [
        parameter
        for layer in network.modules()
        if isinstance(layer, AdaptedLayer)
        for half in (layer.down, layer.up)
        for parameter in half.parameters()
    ]


@contextlib.contextmanager
def high_path(network: nn.Module, *, is_high: bool = True) -> Iterator[None]:
    """Turn a network's adapters off for the length of the block; without adapters nothing happens.

    Args:
        network: A recogniser.
        is_high: False leaves them on.
    """
    layers = [layer for layer in network.modules() if is_high and isinstance(layer, AdaptedLayer)]
    for layer in layers:
        layer.is_on = False
    try:
        yield
    finally:
        for layer in layers:
            layer.is_on = True
