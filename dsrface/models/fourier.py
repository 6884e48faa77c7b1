"""timm's Fourier encoding of positions, with every tensor made on the device that it is for.

Apart from `models.edgeface`, which must not import timm before it builds a network: that takes seconds.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from timm.models.edgenext import PositionalEncodingFourier
from torch import Tensor, nn


class FourierEncoding(PositionalEncodingFourier):
    """The same numbers as timm's, which begins on the host: in every pass, that would wait for a GPU."""

    def forward(self, shape: tuple[int, int, int]) -> Tensor:
        """Return the encoding of the positions of maps.

        Args:
            shape: Batch, rows and columns.

        Returns:
            float32 [B, C, rows, columns].
        """
        device = self.token_projection.weight.device
        # A compiled graph needs no such help, and would break at it.
        with nullcontext() if torch.compiler.is_compiling() else device:
            encoding: Tensor = super().forward(shape)
        return encoding


def encode_on_device(network: nn.Module) -> None:
    """Make every position encoding of a network run on the device; its tensors keep their names."""
    for module in network.modules():
        if type(module) is PositionalEncodingFourier:
            module.__class__ = FourierEncoding
