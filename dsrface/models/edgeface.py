"""EdgeFace: timm's EdgeNeXt with a 512-d embedding and, in two variants, low-rank linear layers.

Source: George et al., "EdgeFace: Efficient Face Recognition Model for Edge Devices" (2023), code BSD-3. Names
and shapes of the tensors are those of the official files, so such a file loads without any renaming; whatever
does not match to the last tensor is refused (a recogniser of which nothing was loaded looks like one that
works).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import UsageError, WeightsError
from dsrface.models.strict import Shapes, key_difference, plain_name, shapes_of
from dsrface.types import HIGH_SIZE_PX, Preprocess

EMBEDDING_DIM = 512
EDGEFACE_PREPROCESS = Preprocess(HIGH_SIZE_PX, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FROM_SCRATCH_LAYER_SCALE = 0.1


@dataclass(frozen=True)
class EdgeFaceVariant:
    """What makes one official EdgeFace.

    Args:
        timm_name: Trunk in timm.
        rank_ratio: Rank of the low-rank linears relative to the smaller side; None keeps full linears.
    """

    timm_name: str
    rank_ratio: float | None


EDGEFACE_VARIANTS: dict[str, EdgeFaceVariant] = {
    "edgeface_xxs": EdgeFaceVariant("edgenext_xx_small", None),
    "edgeface_xs_gamma_06": EdgeFaceVariant("edgenext_x_small", 0.6),
    "edgeface_s_gamma_05": EdgeFaceVariant("edgenext_small", 0.5),
    "edgeface_base": EdgeFaceVariant("edgenext_base", None),
}


class EdgeFace(nn.Module):
    """The trunk under the name `model`, as in the official files; gives the raw embedding, not normalised.

    Args:
        variant: Key of `EDGEFACE_VARIANTS`; kept as `self.variant`.
        trunk: EdgeNeXt whose classifier is the embedding.
    """

    def __init__(self, variant: str, trunk: nn.Module) -> None:
        super().__init__()
        self.variant = variant
        self.model = trunk

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512"]:
        """Return embeddings of images that went through `EDGEFACE_PREPROCESS`."""
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


def build_edgeface(variant: str, *, layer_scale: float | None = None) -> EdgeFace:
    """Return a randomly initialised EdgeFace.

    Args:
        variant: Key of `EDGEFACE_VARIANTS`.
        layer_scale: Initial scale of every residual branch. None takes 0.1, right for training from scratch:
            timm's 1e-6 suits trunks whose weights are loaded anyway and leaves a fresh one all but linear.

    Raises:
        UsageError: unknown variant, the known ones listed.
    """
    spec = EDGEFACE_VARIANTS.get(variant)
    if spec is None:
        raise UsageError(
            f"There is no EdgeFace variant {variant!r}.",
            id="unknown-backbone",
            hint=f"Choose one of: {', '.join(EDGEFACE_VARIANTS)}.",
        )
    import timm

    from dsrface.models.fourier import encode_on_device

    scale = FROM_SCRATCH_LAYER_SCALE if layer_scale is None else layer_scale
    trunk: nn.Module = timm.create_model(spec.timm_name, pretrained=False, ls_init_value=scale)
    trunk.reset_classifier(EMBEDDING_DIM)  # type: ignore[operator]
    encode_on_device(trunk)
    if spec.rank_ratio is not None:
        _replace_linears(trunk, spec.rank_ratio)
    return EdgeFace(variant, trunk)


def infer_variant(tensors: Mapping[str, Tensor], *, where: object = "") -> str:
    """Return the variant whose tensors these are, judged by names and shapes alone.

    Args:
        tensors: Under the official names.
        where: The file, for the error.

    Raises:
        WeightsError: no variant fits; the difference to the nearest one is listed.
    """
    shapes = shapes_of(tensors)
    best, best_score = "", -1
    for variant in EDGEFACE_VARIANTS:
        expected = expected_shapes(variant)
        if expected == shapes:
            return variant
        score = sum(shapes.get(name) == shape for name, shape in expected.items())
        if score > best_score:
            best, best_score = variant, score
    what = f"No EdgeFace variant has these tensors; the nearest is {best}."
    raise key_difference(expected_shapes(best), shapes, where=where, what=what)


def load_edgeface_state(state_dict: Mapping[str, Tensor], *, where: object = "") -> EdgeFace:
    """Build the variant that `state_dict` belongs to and load it, every tensor of it.

    Args:
        state_dict: Tensors, perhaps below `state_dict` or `model`, with or without `module.`, `_orig_mod.`,
            `model.`.
        where: The file, for the error.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape.
    """
    tensors = _official_names(state_dict, where)
    network = build_edgeface(infer_variant(tensors, where=where))
    network.load_state_dict(tensors, strict=True)
    return network.eval()


def _official_names(state_dict: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
    """Return the tensors with wrappers' prefixes gone and `model.` in front."""
    tensors: dict[str, Tensor] = {}
    for raw, tensor in state_dict.items():
        name = f"model.{plain_name(raw).removeprefix('model.')}"
        if name in tensors:
            raise WeightsError(
                f"Two tensors of the file are both called {name}.", id="weights-mismatch", where=where
            )
        tensors[name] = tensor
    return tensors


@functools.cache
def expected_shapes(variant: str) -> Shapes:
    """Return name and shape of every tensor of a variant."""
    with torch.device("meta"):
        network = build_edgeface(variant)
    return shapes_of(network.state_dict())


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
