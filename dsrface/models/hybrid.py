"""HybridDsr: max-feature-map residual CNN, full self-attention over the VLR tokens, pixel shuffle.

A clean re-make, at its size, of the network that people train today: for comparison, not a recommendation.
Differences: no BatchNorm, no clamp, a bicubic skip and a zero-initialised tail, as in every network here.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dsrface.config.dsr_networks import HybridTable
from dsrface.models.resize import resize_bicubic, shuffle_factor


class HybridDsr(nn.Module):
    """See the module's head.

    Args:
        config: Its options.
        vlr_size: Side of its input, in pixels.
        high_size: Side of its output, in pixels.
    """

    def __init__(self, config: HybridTable, vlr_size: int, high_size: int) -> None:
        super().__init__()
        width, size, tail = config.channels, vlr_size, config.tail_channels
        self.factor = shuffle_factor(size, high_size)
        self.high_size = high_size
        self.head = MfmConv(3, width)
        self.blocks = nn.Sequential(
            *(MfmBlock(width, gate_hidden=config.gate_hidden) for _ in range(config.blocks))
        )
        self.attention = nn.Sequential(
            *(
                AttentionLayer(width, num_tokens=size * size, heads=config.attention_heads)
                for _ in range(config.attention_layers)
            )
        )
        self.expand = nn.Conv2d(width, tail * self.factor**2, 1)
        self.refine = nn.Sequential(MfmConv(tail, tail), MfmConv(tail, tail))
        self.tail = nn.Conv2d(tail, 3, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        if self.tail.bias is not None:
            nn.init.zeros_(self.tail.bias)

    def forward(self, low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 h h"]:
        """Return the super-resolved batch, not clamped."""
        features = self.head(low - 0.5)
        features = features + self.blocks(features)
        tokens = features.flatten(2).transpose(1, 2)
        features = self.attention(tokens).transpose(1, 2).reshape(features.shape)
        shuffled = functional.pixel_shuffle(self.expand(features), self.factor)
        shuffled = resize_bicubic(shuffled, size_px=self.high_size)
        out: Tensor = resize_bicubic(low, size_px=self.high_size) + self.tail(self.refine(shuffled))
        return out


class MfmConv(nn.Module):
    """A 3x3 convolution to twice the channels, of which the larger of each pair is kept (max-feature-map)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return `[b, out_channels, h, w]`."""
        return _max_feature_map(self.conv(x))


class MfmBlock(nn.Module):
    """x + gate(x) * mfm_conv(mfm_conv(x)), the gate one factor a channel from the pooled features."""

    def __init__(self, channels: int, *, gate_hidden: int) -> None:
        super().__init__()
        self.first = MfmConv(channels, channels)
        self.second = MfmConv(channels, channels)
        self.gate = nn.Sequential(
            nn.Linear(channels, gate_hidden), nn.ReLU(), nn.Linear(gate_hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the block's output, same shape."""
        change = self.second(self.first(x))
        out: Tensor = x + change * self.gate(change.mean((2, 3)))[:, :, None, None]
        return out


class AttentionLayer(nn.Module):
    """Pre-norm transformer layer over all tokens, with an MLP of ratio 2 and its own position table."""

    def __init__(self, channels: int, *, num_tokens: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.empty(num_tokens, channels))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.norm_attention = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.merge = nn.Linear(channels, channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Return the tokens after attention and MLP, same shape."""
        batch, num_tokens, channels = tokens.shape
        qkv = self.qkv(self.norm_attention(tokens + self.positions))
        query, key, value = qkv.view(batch, num_tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.merge(mixed.transpose(1, 2).reshape(batch, num_tokens, channels))
        out: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return out


def _max_feature_map(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return torch.maximum(first, second)
