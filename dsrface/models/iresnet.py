"""IResNet-18, 34, 50 and 100 as insightface trains them: a pre-activation ResNet with PReLU at 112x112.

Names and shapes of the tensors are those of the official files, so that such a file loads without renaming.

Source: Duta et al. 2020, arXiv:2004.04989; ArcFace, Deng et al. 2019, arXiv:1801.07698.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from dsrface.types import EMBEDDING_DIM

_WIDTHS = (64, 128, 256, 512)
_GRID_PX = 7  # 112 halved four times


class IResNet(nn.Module):
    """Gives the raw embedding, not normalised.

    Args:
        depths: Blocks of each of the four stages.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.prelu = nn.PReLU(_WIDTHS[0])
        stages = zip((_WIDTHS[0], *_WIDTHS[:-1]), _WIDTHS, depths, strict=True)
        self.layer1, self.layer2, self.layer3, self.layer4 = (_stage(*stage) for stage in stages)
        self.bn2 = nn.BatchNorm2d(_WIDTHS[-1])
        self.fc = nn.Linear(_WIDTHS[-1] * _GRID_PX**2, EMBEDDING_DIM)
        self.features = nn.BatchNorm1d(EMBEDDING_DIM)
        self.features.weight.requires_grad_(False)  # the scale of an embedding means nothing

    def forward(self, image: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 512"]:
        """Return embeddings of images as the network wants them."""
        x = self.prelu(self.bn1(self.conv1(image)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embedding: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return embedding


class IResBlock(nn.Module):
    """x + BN(conv(PReLU(BN(conv(BN(x))))))); the second convolution has the stride.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: 1 or 2; with 2 the shortcut is a 1x1 convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            if stride != 1
            else None
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Return the block's output."""
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        out = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        result: Tensor = self.bn3(out) + shortcut
        return result


def _stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    rest = (IResBlock(channels, channels, 1) for _ in range(depth - 1))
    return nn.Sequential(IResBlock(in_channels, channels, 2), *rest)
