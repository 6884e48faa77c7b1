"""EdgeFace: timm's EdgeNeXt with a 512-d embedding and, in two variants, low-rank linear layers.

Source: George et al., "EdgeFace: Efficient Face Recognition Model for Edge Devices" (2023), code BSD-3. Names
and shapes of the tensors are those of the official files, so such a file loads without any renaming; whatever
does not match to the last tensor is refused (a recogniser of which nothing was loaded looks like one that
works).
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from dsrface.runtime.versions import require
from dsrface.types import EMBEDDING_DIM

_FROM_SCRATCH_LAYER_SCALE = 0.1


class EdgeFace(nn.Module):
    """The backbone under the name `model`, as in the official files; gives the raw embedding, not normalised.

    Args:
        backbone: EdgeNeXt whose last layer gives the embedding.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.model = backbone

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512"]:
        """Return embeddings of images as the network wants them."""
        embedding: Tensor = self.model(image)
        return embedding


class LowRankLinear(nn.Module):
    """A linear layer as the product of two: `linear1` without bias, `linear2` with it.

    Args:
        in_features: Input width.
        out_features: Output width.
        rank: Width between the two.
        bias: Whether `linear2` has a bias.
    """

    def __init__(self, in_features: int, out_features: int, *, rank: int, bias: bool) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, out_features, bias=bias)

    def forward(self, x: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Return the mapped features."""
        out: Tensor = self.linear2(self.linear1(x))
        return out


def make_edgeface(timm_name: str, rank_ratio: float | None, *, layer_scale: float | None = None) -> EdgeFace:
    """Return a randomly initialised EdgeFace.

    Args:
        timm_name: Backbone in timm.
        rank_ratio: Rank of the low-rank linears relative to the smaller side; None keeps full linears.
        layer_scale: Initial scale of every residual branch. None takes 0.1, right for training from scratch:
            timm's 1e-6 suits backbones whose weights are loaded anyway and leaves a fresh one all but linear.
    """
    require("timm", extra="faces")
    import timm

    from dsrface.models.fourier import encode_on_device

    scale = _FROM_SCRATCH_LAYER_SCALE if layer_scale is None else layer_scale
    backbone: nn.Module = timm.create_model(timm_name, pretrained=False, ls_init_value=scale)
    backbone.reset_classifier(EMBEDDING_DIM)  # type: ignore[operator]
    encode_on_device(backbone)
    if rank_ratio is not None:
        _replace_linears(backbone, rank_ratio)
    return EdgeFace(backbone)


def _replace_linears(module: nn.Module, rank_ratio: float) -> None:
    # Walks as the official code does: it skips a child *called* "head", yet descends into the module of that
    # name, whose own linear is called "fc". So the embedding layer becomes low-rank too.
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and "head" not in name:
            rank = max(2, int(min(child.in_features, child.out_features) * rank_ratio))
            low_rank = LowRankLinear(
                child.in_features, child.out_features, rank=rank, bias=child.bias is not None
            )
            _initialise(low_rank)
            setattr(module, name, low_rank)
        else:
            _replace_linears(child, rank_ratio)


def _initialise(layer: LowRankLinear) -> None:
    # Keep the product's variance at that of one linear layer: 1 / in_features per weight.
    nn.init.normal_(layer.linear1.weight, std=1 / math.sqrt(layer.linear1.in_features))
    nn.init.normal_(layer.linear2.weight, std=1 / math.sqrt(layer.linear2.in_features))
    if layer.linear2.bias is not None:
        nn.init.zeros_(layer.linear2.bias)
