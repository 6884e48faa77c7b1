"""IR-18, 50 and 101 as AdaFace trains them: the same network as an IResNet but for details, other names.

Names and shapes of the tensors are those of the official files. Two differences to `models.iresnet`: the
shortcut of a block that keeps its width is a bare subsampling, and the last normalisation has no weights.

Source: Kim et al. 2022, arXiv:2204.00964, after the IR of face.evoLVe.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from dsrface.types import EMBEDDING_DIM

_WIDTHS = (64, 128, 256, 512)
_GRID_PX = 7  # 112 halved four times
_DROPOUT = 0.4


class AdaFaceIr(nn.Module):
    """Gives the raw embedding; the official code divides it by its norm, which it returns as well.

    Args:
        depths: Blocks of each of the four stages.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.PReLU(_WIDTHS[0]),
        )
        blocks: list[nn.Module] = []
        in_channels = _WIDTHS[0]
        for channels, depth in zip(_WIDTHS, depths, strict=True):
            blocks.append(IrBlock(in_channels, channels, 2))
            blocks += [IrBlock(channels, channels, 1) for _ in range(depth - 1)]
            in_channels = channels
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(_WIDTHS[-1]),
            nn.Dropout(_DROPOUT),
            nn.Flatten(),
            nn.Linear(_WIDTHS[-1] * _GRID_PX**2, EMBEDDING_DIM),
            nn.BatchNorm1d(EMBEDDING_DIM, affine=False),
        )

    def forward(self, image: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 512"]:
        """Return embeddings of images as the network wants them (BGR)."""
        embedding: Tensor = self.output_layer(self.body(self.input_layer(image)))
        return embedding


class IrBlock(nn.Module):
    """shortcut(x) + BN(conv(PReLU(BN(conv(BN(x)))))); the second convolution has the stride.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if in_channels != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Return the block's output."""
        out: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return out
