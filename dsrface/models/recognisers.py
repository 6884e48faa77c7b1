"""Every recogniser that is built here by name, with how it wants its images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from dsrface.errors import UsageError
from dsrface.models.adaface_ir import AdaFaceIr
from dsrface.models.checkpoints import Layout, find_network
from dsrface.models.edgeface import EDGEFACE_PREPROCESS, EDGEFACE_VARIANTS, build_edgeface
from dsrface.models.foreign import TIMM, build_timm
from dsrface.models.iresnet import IResNet
from dsrface.models.mobilefacenet import MobileFaceNet
from dsrface.models.strict import shapes_of
from dsrface.types import HIGH_SIZE_PX, Preprocess

_HALF = (0.5, 0.5, 0.5)
_RGB, _BGR = (Preprocess(HIGH_SIZE_PX, _HALF, _HALF, colour) for colour in ("RGB", "BGR"))


@dataclass(frozen=True)
class Architecture:
    """A recogniser that can be built by name.

    Args:
        build: Makes it, randomly initialised.
        preprocess: How its published weights want images.
        root: Prefix of all its tensors that a file may lack.
    """

    build: Callable[[], nn.Module]
    preprocess: Preprocess
    root: str = ""


ARCHITECTURES: dict[str, Architecture] = {
    **{
        name: Architecture(functools.partial(build_edgeface, name), EDGEFACE_PREPROCESS, "model.")
        for name in EDGEFACE_VARIANTS
    },
    "iresnet18": Architecture(lambda: IResNet((2, 2, 2, 2)), _RGB),
    "iresnet50": Architecture(lambda: IResNet((3, 4, 14, 3)), _RGB),
    "iresnet100": Architecture(lambda: IResNet((3, 13, 30, 3)), _RGB),
    "adaface_ir18": Architecture(lambda: AdaFaceIr((2, 2, 2, 2)), _BGR),
    "adaface_ir50": Architecture(lambda: AdaFaceIr((3, 4, 14, 3)), _BGR),
    "adaface_ir101": Architecture(lambda: AdaFaceIr((3, 13, 30, 3)), _BGR),
    "mobilefacenet": Architecture(MobileFaceNet, _RGB),
}


def build_recogniser(name: str) -> nn.Module:
    """Return a randomly initialised recogniser.

    Args:
        name: Key of `ARCHITECTURES`, or `timm:NAME`.

    Raises:
        UsageError: there is none of that name; the known ones are listed.
    """
    if name.startswith(TIMM):
        return build_timm(name)
    if name not in ARCHITECTURES:
        raise UsageError(
            f"There is no recogniser {name!r}.",
            id="unknown-backbone",
            hint=f"Choose one of: {', '.join(ARCHITECTURES)}.",
        )
    return ARCHITECTURES[name].build()


def is_known(name: object) -> TypeGuard[str]:
    """Return whether `build_recogniser` knows a name."""
    return isinstance(name, str) and (name in ARCHITECTURES or name.startswith(TIMM))


@functools.cache
def expected_layout(name: str) -> Layout:
    """Return name and shape of every tensor of a recogniser."""
    with torch.device("meta"):
        return Layout(shapes_of(build_recogniser(name).state_dict()), ARCHITECTURES[name].root)


def load_recogniser_state(tensors: Mapping[str, Tensor], *, where: object = "") -> tuple[str, nn.Module]:
    """Build the recogniser that tensors belong to and load it, every tensor of it.

    Args:
        tensors: Of a checkpoint, however wrapped.
        where: The file, for errors.

    Returns:
        Its name and the network, in evaluation mode.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape.
    """
    layouts = {name: expected_layout(name) for name in ARCHITECTURES}
    name, state = find_network(tensors, layouts, where=where)
    network = build_recogniser(name)
    network.load_state_dict(state, strict=True)
    return name, network.eval()
