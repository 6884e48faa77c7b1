"""From an image in [0, 1] to what a network wants."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dsrface.types import Preprocess


def normalise(image: Float[Tensor, "b 3 h w"], preprocess: Preprocess) -> Float[Tensor, "b 3 h w"]:
    """Map an Image01 batch to what a network wants: colour order, then (x - mean) / std per channel."""
    if preprocess.colour == "BGR":
        image = image.flip(1)
    mean = torch.tensor(preprocess.mean, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return (image - mean) / std
