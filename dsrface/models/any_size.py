"""AnySizeDsr: one network for faces of many sizes, which works at 28x28 whatever it is given.

The face is enlarged to 56x56, so that 48 px lose nothing, and unshuffled to 28x28; a further channel says how
large it was. Skip and zero-initialised tail as in every network here.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dsrface.config.dsr_networks import AnySizeTable
from dsrface.models.dsr import residual_body, zero_tail
from dsrface.models.resize import resize_bicubic, shuffle_factor

_GRID = 28
_UNSHUFFLE = 2
_MIDDLE_PX = 20.0  # about the middle of 8 and 48 px, as a ratio


class AnySizeDsr(nn.Module):
    """Residual blocks at 28x28, with mixers and a learned value per position.

    Args:
        config: Its options.
        vlr_size: Of the faces that it is validated on; any others are taken too.
        high_size: Side of its output, in pixels.
    """

    def __init__(self, config: AnySizeTable, vlr_size: int, high_size: int) -> None:
        super().__init__()
        del vlr_size
        width = config.channels
        self.factor = shuffle_factor(_GRID, high_size)
        self.high_size = high_size
        self.head = nn.Conv2d(3 * _UNSHUFFLE**2 + 1, width, 3, padding=1)
        self.positions = nn.Parameter(torch.zeros(width, _GRID, _GRID))
        self.body = residual_body(config, num_positions=_GRID * _GRID)
        self.tail = zero_tail(width, 3 * self.factor**2)

    def forward(self, low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 h h"]:
        """Return the super-resolved batch, not clamped."""
        grid = resize_bicubic(low, size_px=_GRID * _UNSHUFFLE) - 0.5
        size = torch.full_like(grid[:, :1, :_GRID, :_GRID], math.log2(low.shape[-1] / _MIDDLE_PX))
        features = self.head(torch.cat([functional.pixel_unshuffle(grid, _UNSHUFFLE), size], dim=1))
        detail = functional.pixel_shuffle(self.tail(self.body(features + self.positions)), self.factor)
        detail = resize_bicubic(detail, size_px=self.high_size)
        return resize_bicubic(low, size_px=self.high_size) + detail
