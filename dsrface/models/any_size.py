"""AnySizeDsr: one network for faces of many sizes, which works at the size that it is given.

What a VLR pixel lost is alike at every size, so the same convolutions give it back; on a common grid each
size would need its own, and others for each place between two pixels. A further channel says how large the
face is. Skip and zero-initialised tail as in every network here.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dsrface.config.dsr_networks import AnySizeTable
from dsrface.models.dsr import PositionMixer, residual_body, zero_tail
from dsrface.models.resize import resize_bicubic, shuffle_factor

_GRID = 28  # of what is learned per position
_SHUFFLE_PX = 16  # size at which the pixel shuffle gives the output's size
_MIDDLE_PX = 20.0  # about the middle of 8 and 48 px, as a ratio


class AnySizeDsr(nn.Module):
    """Residual blocks at the VLR size; mixers and the value per position are resized from 28x28.

    Args:
        config: Its options.
        vlr_size: Of the faces that it is validated on; any others are taken too.
        high_size: Side of its output, in pixels.
    """

    def __init__(self, config: AnySizeTable, vlr_size: int, high_size: int) -> None:
        super().__init__()
        del vlr_size
        width = config.channels
        self.factor = shuffle_factor(_SHUFFLE_PX, high_size)
        self.high_size = high_size
        self.head = nn.Conv2d(3 + 1, width, 3, padding=1)
        self.positions = nn.Parameter(torch.zeros(width, _GRID, _GRID))
        self.body = residual_body(config, num_positions=_GRID * _GRID)
        self.tail = zero_tail(width, 3 * self.factor**2)

    def forward(self, low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 h h"]:
        """Return the super-resolved batch, not clamped."""
        side = low.shape[-1]
        size = torch.full_like(low[:, :1], math.log2(side / _MIDDLE_PX))
        features = self.head(torch.cat([low - 0.5, size], dim=1))
        features = features + resize_bicubic(self.positions[None], size_px=side)
        for part in self.body:
            if isinstance(part, PositionMixer):
                grid = resize_bicubic(features, size_px=_GRID)
                features = features + resize_bicubic(part(grid) - grid, size_px=side)
            else:
                features = part(features)
        detail = functional.pixel_shuffle(self.tail(features), self.factor)
        return resize_bicubic(low, size_px=self.high_size) + resize_bicubic(detail, size_px=self.high_size)
