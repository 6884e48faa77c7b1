"""The slim MobileFaceNet that packages for TensorFlow.js carry: 0.5 M weights, embeddings of 256 numbers.

A dense convolution, then four stages of a 1x1 convolution, a depthwise one that halves the grid and two more
on a residual branch; a matrix product over the last grid gives the embedding. It has none of the other 1x1
convolutions of insightface's (`mobilefacenet`), so it is cheap to learn from. The weights are a user's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import WeightsError
from dsrface.models.strict import load_strictly
from dsrface.models.tfjs import read_graph_model
from dsrface.types import HIGH_SIZE_PX, Preprocess

NAME = "mobilefacenet_tfjs"
_WIDTHS = (32, 32, 64, 128)
_GRID, _DIM = 4, 256
_MEAN, _FACTOR = "minusscalar0_second", "mulscalar0_second"  # of pixels in 0..255


class MobileFaceNetTfjs(nn.Module):
    """Gives the raw embedding, not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.PReLU(32))
        narrow = (32, *_WIDTHS)
        self.stages = nn.Sequential(*(Stage(*pair) for pair in zip(narrow, _WIDTHS, strict=False)))
        self.embedding = nn.Linear(_WIDTHS[-1] * _GRID**2, _DIM)

    def forward(self, image: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 256"]:
        """Return embeddings of images as the network wants them."""
        embedding: Tensor = self.embedding(self.stages(self.stem(image)).flatten(1))
        return embedding


class Stage(nn.Module):
    """1x1 convolution, depthwise at stride 2, and x + two depthwise convolutions of x.

    Args:
        in_channels: Channels given.
        channels: Channels returned.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.reduce = _depthwise(channels, stride=2)
        self.first, self.second = _depthwise(channels), _depthwise(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return features on half the grid."""
        x = self.reduce(self.widen(x))
        out: Tensor = x + self.second(self.first(x))
        return out


def load_mobilefacenet_tfjs(path: Path) -> tuple[nn.Module, Preprocess]:
    """Return the network of a graph model, and how it wants images, which its first constants say.

    Args:
        path: `model.json`, its files of numbers next to it.

    Raises:
        WeightsError: no graph model, or of another network.
    """
    constants = read_graph_model(path)
    model = MobileFaceNetTfjs()
    what = "This graph model is not the MobileFaceNet that can be read here."
    try:
        state = _state(constants)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{what} It lacks {error}.", id="weights-mismatch", where=path) from None
    load_strictly(model, state, where=path, what=what)
    mean, std = float(constants[_MEAN]) / 255, 1 / float(constants[_FACTOR]) / 255
    return model.eval(), Preprocess(HIGH_SIZE_PX, (mean,) * 3, (std,) * 3)


def _state(constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict: kernels from HWIO to OIHW, the last normalisation folded into the embedding."""
    state = {
        "stem.0.weight": constants["conv1_weight"].permute(3, 2, 0, 1),
        "stem.1.weight": constants["prelu1_gamma"],
    }
    for number in range(len(_WIDTHS)):
        given, own = f"stage{number + 1}_unit1", f"stages.{number}"
        state[f"{own}.widen.weight"] = constants[f"{given}_conv0_0_weight"].permute(3, 2, 0, 1)
        for part, (kernel, slope) in {
            "reduce": ("conv0_1_df", "prelu0_gamma"),
            "first": ("conv1_df", "prelu1_gamma"),
            "second": ("conv2_df", "prelu2_gamma"),
        }.items():
            state[f"{own}.{part}.0.weight"] = constants[f"{given}_{kernel}"].permute(2, 3, 0, 1)
            state[f"{own}.{part}.1.weight"] = constants[f"{given}_{slope}"]
    dense = constants["dense/kernel"].view(_GRID, _GRID, _WIDTHS[-1], _DIM).permute(3, 2, 0, 1).flatten(1)
    state["embedding.weight"] = dense * constants["batchnorm0/mul"][:, None]
    state["embedding.bias"] = constants["batchnorm0/sub"]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _depthwise(channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.PReLU(channels)
    )
