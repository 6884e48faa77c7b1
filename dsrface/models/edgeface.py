"""EdgeFace: timm's EdgeNeXt with a 512-d embedding and, in two variants, low-rank linear layers.

Source: George et al., "EdgeFace: Efficient Face Recognition Model for Edge Devices" (2023), code BSD-3. Names
and shapes of the tensors are those of the official files, so such a file loads without any renaming; whatever
does not match to the last tensor is refused (a recogniser of which nothing was loaded looks like one that
works).
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import UsageError, WeightsError
from dsrface.models.weight_files import read_tensors
from dsrface.types import HIGH_SIZE_PX, Preprocess

EMBEDDING_DIM = 512
EDGEFACE_PREPROCESS = Preprocess(HIGH_SIZE_PX, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FROM_SCRATCH_LAYER_SCALE = 0.1
_PREFIXES = ("module.", "_orig_mod.")
_MAX_NAMES_SHOWN = 6


@dataclass(frozen=True)
class EdgeFaceVariant:
    """What makes one official EdgeFace.

    Args:
        timm_name: Trunk in timm.
        rank_ratio: Rank of the low-rank linears relative to the smaller side; None keeps full linears.
        num_tensors: Tensors in the official file.
    """

    timm_name: str
    rank_ratio: float | None
    num_tensors: int


EDGEFACE_VARIANTS: dict[str, EdgeFaceVariant] = {
    "edgeface_xxs": EdgeFaceVariant("edgenext_xx_small", None, 160),
    "edgeface_xs_gamma_06": EdgeFaceVariant("edgenext_x_small", 0.6, 257),
    "edgeface_s_gamma_05": EdgeFaceVariant("edgenext_small", 0.5, 257),
    "edgeface_base": EdgeFaceVariant("edgenext_base", None, 214),
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

    scale = FROM_SCRATCH_LAYER_SCALE if layer_scale is None else layer_scale
    trunk: nn.Module = timm.create_model(spec.timm_name, pretrained=False, ls_init_value=scale)
    trunk.reset_classifier(EMBEDDING_DIM)  # type: ignore[operator]
    if spec.rank_ratio is not None:
        _replace_linears(trunk, spec.rank_ratio)
    return EdgeFace(variant, trunk)


def infer_variant(state_dict: Mapping[str, Tensor]) -> str:
    """Return the variant whose tensors these are, judged by names and shapes alone.

    Raises:
        WeightsError: no variant fits; the difference to the nearest one is listed.
    """
    tensors = clean_state_dict(state_dict)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    best, best_score = "", -1
    for variant in EDGEFACE_VARIANTS:
        expected = expected_shapes(variant)
        if expected == shapes:
            return variant
        score = sum(shapes.get(name) == shape for name, shape in expected.items())
        if score > best_score:
            best, best_score = variant, score
    raise key_difference(
        expected_shapes(best), shapes, what=f"No EdgeFace variant has these tensors; the nearest is {best}."
    )


def load_edgeface_state(state_dict: Mapping[str, Tensor]) -> EdgeFace:
    """Build the variant that `state_dict` belongs to and load it, every tensor of it.

    Args:
        state_dict: Tensors, perhaps below `state_dict` or `model`, with or without `module.`, `_orig_mod.`,
            `model.`.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape.
    """
    tensors = clean_state_dict(state_dict)
    variant = infer_variant(tensors)
    network = build_edgeface(variant)
    network.load_state_dict(dict(tensors), strict=True)
    return network.eval()


def load_edgeface(path: Path) -> EdgeFace:
    """Load an official EdgeFace file (.pt, .pth or .safetensors); no code in the file is ever run.

    Raises:
        WeightsError: unsafe, damaged, or not an EdgeFace to the last tensor.
    """
    tensors, _ = read_tensors(path)
    try:
        return load_edgeface_state(tensors)
    except WeightsError as error:
        raise WeightsError(error.message, id=error.id, where=path, hint=error.hint) from None


def clean_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the official names: wrappers' prefixes gone, `model.` in front."""
    cleaned: dict[str, Tensor] = {}
    for raw, tensor in state_dict.items():
        name = raw
        while name.startswith(_PREFIXES):
            name = name.split(".", 1)[1]
        name = name if name.startswith("model.") else f"model.{name}"
        if name in cleaned:
            raise WeightsError(f"Two tensors of the file are both called {name}.", id="weights-mismatch")
        cleaned[name] = tensor
    return cleaned


@functools.cache
def expected_shapes(variant: str) -> Mapping[str, tuple[int, ...]]:
    """Return name and shape of every tensor of a variant."""
    with torch.device("meta"):
        network = build_edgeface(variant)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def key_difference(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, what: str
) -> WeightsError:
    """Return the error that lists missing, unexpected and wrongly shaped tensors, with the nearest names."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shapes = [name for name in expected if name in found and expected[name] != found[name]]
    matched = len(expected) - len(missing) - len(shapes)
    lines = [what, f"{matched} of {len(expected)} tensors match."]
    if missing:
        near = {
            name: difflib.get_close_matches(name, unexpected, n=1, cutoff=0.8)
            for name in missing[:_MAX_NAMES_SHOWN]
        }
        shown = [name + (f" (the file has {near[name][0]})" if near[name] else "") for name in near]
        lines.append(_listed("missing", shown, len(missing)))
    if unexpected:
        lines.append(_listed("unexpected", unexpected[:_MAX_NAMES_SHOWN], len(unexpected)))
    if shapes:
        shown = [
            f"{name}: {list(found[name])}, wanted {list(expected[name])}"
            for name in shapes[:_MAX_NAMES_SHOWN]
        ]
        lines.append(_listed("other shape", shown, len(shapes)))
    return WeightsError(
        "\n".join(lines),
        id="weights-mismatch",
        hint="Nothing was loaded: weights load completely or not at all. Is the file for this network?",
    )


def _listed(label: str, shown: list[str], total: int) -> str:
    more = f", and {total - len(shown)} more" if total > len(shown) else ""
    return f"  {label} ({total}): {', '.join(shown)}{more}"


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
