"""Super-resolution networks: VLR face in, HR face out, of 112 or 128 px.

    output = bicubic(low) + shuffle(tail(body(low)))

All convolutions run at the VLR size; a zero-initialised tail makes the untrained network equal to bicubic,
so it can only leave the baseline by learning. No BatchNorm (its statistics disturb restoration) and no clamp
in `forward` (a clamp has no gradient outside [0, 1]); whoever writes an image clamps there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dsrface.config.catalogue import DSR_NETWORKS, load
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.dsr_networks import AnySizeTable, ResidualTable
from dsrface.models.resize import resize_bicubic, shuffle_factor

# A mixer before the second block and every third after it: one before each block learns less per CPU-second.
_MIXER_PERIOD = 3


def build_dsr(config: DsrConfig) -> nn.Module:
    """Return an untrained network whose output equals bicubic.

    Its forward maps Image01 `[b, 3, vlr_size, vlr_size]` to `[b, 3, high_size, high_size]`, unclamped.
    """
    network: nn.Module = load(DSR_NETWORKS[config.arch].build)(
        config.network, config.vlr_size, config.high_size
    )
    return network


class ResidualDsr(nn.Module):
    """Residual blocks at the VLR size, with optional position mixers and a learned value per position.

    Args:
        config: Its options.
        vlr_size: Side of its input, in pixels.
        high_size: Side of its output, in pixels.
    """

    def __init__(self, config: ResidualTable, vlr_size: int, high_size: int) -> None:
        super().__init__()
        width, size = config.channels, vlr_size
        self.factor = shuffle_factor(size, high_size)
        self.high_size = high_size
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.positions = nn.Parameter(torch.zeros(width, size, size)) if config.positions else None
        self.body = residual_body(config, num_positions=size * size)
        self.tail = zero_tail(width, 3 * self.factor**2)

    def forward(self, low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 h h"]:
        """Return the super-resolved batch, not clamped."""
        features = self.head(low - 0.5)
        if self.positions is not None:
            features = features + self.positions
        detail = functional.pixel_shuffle(self.tail(self.body(features)), self.factor)
        return resize_bicubic(low, size_px=self.high_size) + resize_bicubic(detail, size_px=self.high_size)


def residual_body(config: ResidualTable | AnySizeTable, *, num_positions: int) -> nn.Sequential:
    """Return residual blocks, with a position mixer before some of them where the options ask for it."""
    body: list[nn.Module] = []
    for index in range(config.blocks):
        if config.mixer_rank and index % _MIXER_PERIOD == 1:
            body.append(PositionMixer(num_positions=num_positions, rank=config.mixer_rank))
        body.append(ResidualBlock(config.channels))
    return nn.Sequential(*body)


def zero_tail(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 1x1 convolution that gives zeros until it has learned something."""
    tail = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(tail.weight)
    assert tail.bias is not None
    nn.init.zeros_(tail.bias)
    return tail


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the block's output, same shape."""
        out: Tensor = x + self.second(functional.relu(self.first(x)))
        return out


class PositionMixer(nn.Module):
    """x + expand(relu(squeeze(x))) over positions, shared by all channels; starts as the identity.

    A face that is aligned has its left eye where every other has it: a dense map over positions learns such
    relations (symmetry, the extent of the face) for about the price of one convolution.
    """

    def __init__(self, *, num_positions: int, rank: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(num_positions, rank)
        self.expand = nn.Linear(rank, num_positions)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the mixed features, same shape."""
        out: Tensor = x + self.expand(functional.relu(self.squeeze(x.flatten(2)))).view_as(x)
        return out


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in model.parameters())
