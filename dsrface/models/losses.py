"""Losses for super-resolution; each maps two Image01 batches to a scalar and clamps nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dsrface.errors import WeightsError
from dsrface.models.preprocess import network_input, normalise
from dsrface.models.strict import key_difference, shapes_of
from dsrface.models.weight_files import read_tensors
from dsrface.runtime.versions import require
from dsrface.types import Preprocess

_IMAGENET = Preprocess(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_VGG_DEPTHS = {13: "vgg16", 16: "vgg19"}  # number of convolutions -> torchvision's name
_VGG_ROOT = "features."
_VGG_LAYER = {"vgg16": "features.28", "vgg19": "features.34"}  # conv5_3 and conv5_4, before their activation


def l1(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Return the mean absolute difference, in fp32."""
    return functional.l1_loss(output.float(), target.float())


def charbonnier(
    output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], *, epsilon: float = 1e-3
) -> Float[Tensor, ""]:
    """Return mean sqrt(difference^2 + epsilon^2) in fp32: L1 that is smooth at zero.

    Args:
        output: What the network drew.
        target: The HR batch.
        epsilon: Where it turns from quadratic to linear, in Image01 units.
    """
    return ((output.float() - target.float()).square() + epsilon**2).sqrt().mean()


class IdentityLoss(nn.Module):
    """1 - cosine between the embeddings of the output and of its HR twin, by a frozen recogniser.

    The recogniser's weights get no gradient and it stays in evaluation mode, but the gradient flows through
    it into the image: only the target's embedding is computed without one.

    Args:
        recogniser: Network from normalised images to embeddings; frozen in place.
        preprocess: How it wants its images.
    """

    def __init__(self, recogniser: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.recogniser = _freeze(recogniser)
        self.preprocess = preprocess

    def forward(
        self, output: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        """Return the mean over the batch, in [0, 2]."""
        return 1.0 - self.cosine(output, target).mean()

    def cosine(
        self, output: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Return each pair's cosine, differentiable with respect to `output`."""
        with torch.no_grad():
            wanted = self.recogniser(network_input(target, self.preprocess)).float()
        found = self.recogniser(network_input(output, self.preprocess)).float()
        return functional.cosine_similarity(found, wanted, dim=1)

    def train(self, mode: bool = True) -> IdentityLoss:  # noqa: FBT001, FBT002 - torch's own signature
        """Switch this module; the recogniser stays in evaluation mode."""
        super().train(mode)
        self.recogniser.eval()
        return self


class VggLoss(nn.Module):
    """Mean absolute difference of VGG features (the last convolution, before its activation).

    Args:
        weights: State dict of torchvision's vgg16 or vgg19, e.g. `vgg19-dcbb9e9d.pth`; never downloaded.

    Raises:
        WeightsError: unsafe, damaged or not a VGG.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.features = _freeze(_load_vgg(weights))

    def forward(
        self, output: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        """Return the mean over features and batch."""
        with torch.no_grad():
            wanted = self.features(normalise(target, _IMAGENET))
        return functional.l1_loss(self.features(normalise(output, _IMAGENET)).float(), wanted.float())

    def train(self, mode: bool = True) -> VggLoss:  # noqa: FBT001, FBT002 - torch's own signature
        """Switch this module; VGG stays in evaluation mode."""
        super().train(mode)
        self.features.eval()
        return self


def _load_vgg(path: Path) -> nn.Module:
    require("torchvision", extra="faces")
    import torchvision

    tensors, _ = read_tensors(path)
    tensors = {name[name.index(_VGG_ROOT) :]: tensor for name, tensor in tensors.items() if _VGG_ROOT in name}
    num_convolutions = sum(tensor.ndim == 4 for tensor in tensors.values())
    name = _VGG_DEPTHS.get(num_convolutions)
    if name is None:
        raise WeightsError(
            f"This is no VGG-16 or VGG-19: it has {num_convolutions} convolutions below `features`.",
            id="not-a-vgg",
            where=path,
            hint="Give torchvision's own file, e.g. vgg19-dcbb9e9d.pth.",
        )
    with torch.device("meta"):
        network: nn.Module = torchvision.models.get_model(name, weights=None).features
    expected = {f"features.{key}": shape for key, shape in shapes_of(network.state_dict()).items()}
    found = shapes_of(tensors)
    if expected != found:
        what = f"These are not the tensors of {name}."
        raise key_difference(expected, found, where=path, what=what)
    state = {key.removeprefix("features."): tensor.float() for key, tensor in tensors.items()}
    network.load_state_dict(state, strict=True, assign=True)
    last = int(_VGG_LAYER[name].removeprefix("features."))
    layers = list(network.children())[: last + 1]
    return nn.Sequential(*(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in layers))


def _freeze(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False).eval()
