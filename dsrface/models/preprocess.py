"""From an image in [0, 1] to what a network wants."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from dsrface.types import Preprocess


def normalise(image: Float[Tensor, "b 3 h w"], preprocess: Preprocess) -> Float[Tensor, "b 3 h w"]:
    """Map an Image01 batch to what a network wants: colour order, then (x - mean) / std per channel."""
    if preprocess.colour == "BGR":
        image = image.flip(1)
    mean, std = _constants(preprocess, image.device, image.dtype)
    return (image - mean) / std


@lru_cache(maxsize=64)
def _constants(preprocess: Preprocess, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and std on the device; made once, as every such copy makes the host wait for a GPU."""
    with torch.inference_mode(False):  # else the first caller decides whether others may train with them
        mean = torch.tensor(preprocess.mean, device=device, dtype=dtype).view(1, 3, 1, 1)
        return mean, torch.tensor(preprocess.std, device=device, dtype=dtype).view(1, 3, 1, 1)
