"""MobileFaceNet as insightface trains it (its `mbf`): inverted residuals and a global depthwise convolution.

Names and shapes of the tensors are those of the official files.

Source: Chen et al. 2018, arXiv:1804.07573.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from dsrface.types import EMBEDDING_DIM

_NARROW, _WIDE, _LAST = 128, 256, 512
_DEPTHS = (4, 6, 2)
_GRID_PX = 7  # 112 halved four times


class MobileFaceNet(nn.Module):
    """Gives the raw embedding, not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                ConvNorm(3, _NARROW, 3, stride=2),
                ConvNorm(_NARROW, _NARROW, 3, groups=_NARROW // 2),
                Bottleneck(_NARROW, _NARROW, hidden=_NARROW, stride=2),
                Residuals(_NARROW, _DEPTHS[0], hidden=_NARROW),
                Bottleneck(_NARROW, _WIDE, hidden=_WIDE, stride=2),
                Residuals(_WIDE, _DEPTHS[1], hidden=_WIDE),
                Bottleneck(_WIDE, _WIDE, hidden=2 * _WIDE, stride=2),
                Residuals(_WIDE, _DEPTHS[2], hidden=_WIDE),
            ]
        )
        self.conv_sep = ConvNorm(_WIDE, _LAST, 1)
        self.features = GlobalEmbedding()

    def forward(self, image: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 512"]:
        """Return embeddings of images as the network wants them."""
        x = image
        for layer in self.layers:
            x = layer(x)
        embedding: Tensor = self.features(self.conv_sep(x))
        return embedding


class Layers(nn.Module):
    """A sequence below the name `layers`, as the official files have it.

    Args:
        layers: In order.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return what the sequence makes of `x`."""
        out: Tensor = self.layers(x)
        return out


class ConvNorm(Layers):
    """Convolution, normalisation and, unless it is linear, PReLU.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        size: Side of the kernel.
        stride: Of the convolution.
        groups: Of the convolution.
        padding: None keeps the size at stride 1.
        is_linear: Without PReLU.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        is_linear: bool = False,
    ) -> None:
        pad = size // 2 if padding is None else padding
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, size, stride, pad, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
        ]
        super().__init__(*layers, *([] if is_linear else [nn.PReLU(channels)]))


class Bottleneck(Layers):
    """1x1 to `hidden` channels, 3x3 depthwise, linear 1x1.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        hidden: Channels of the depthwise convolution.
        stride: Of the depthwise convolution.
    """

    def __init__(self, in_channels: int, channels: int, *, hidden: int, stride: int = 1) -> None:
        super().__init__(
            ConvNorm(in_channels, hidden, 1),
            ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden),
            ConvNorm(hidden, channels, 1, is_linear=True),
        )


class ResidualBottleneck(Bottleneck):
    """x + bottleneck(x)."""

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return the block's output, same shape."""
        return x + super().forward(x)


class Residuals(Layers):
    """Residual bottlenecks one after another.

    Args:
        channels: In and out.
        depth: How many.
        hidden: Channels of each depthwise convolution.
    """

    def __init__(self, channels: int, depth: int, *, hidden: int) -> None:
        super().__init__(*(ResidualBottleneck(channels, channels, hidden=hidden) for _ in range(depth)))


class GlobalEmbedding(Layers):
    """A depthwise convolution over the whole grid, then the embedding, normalised over the batch."""

    def __init__(self) -> None:
        super().__init__(
            ConvNorm(_LAST, _LAST, _GRID_PX, groups=_LAST, padding=0, is_linear=True),
            nn.Flatten(),
            nn.Linear(_LAST, EMBEDDING_DIM, bias=False),
            nn.BatchNorm1d(EMBEDDING_DIM),
        )
