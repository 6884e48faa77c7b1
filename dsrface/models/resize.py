"""The one bicubic that everything uses: the DSR's skip connection, the baseline, the live mode.

It is Pillow's BICUBIC (Keys' cubic with a = -0.5, anti-aliased when it shrinks), which also made the VLR
images. Two different cubics (a = -0.5 and a = -0.75) differ by more than a small network gains, so there is
only this one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dsrface.types import HIGH_SIZE_PX

# Pixel shuffle per VLR size: 16 x 7 = 112 exactly; the others overshoot and are shrunk. At 32 px, x4 gained
# 0.1 dB more than x7 with a 2x2 mean after equal CPU time, and 0.35 dB more than working at 16x16 on
# unshuffled pixels.
SHUFFLE_FACTORS = {16: 7, 24: 5, 32: 4}


def upsample_bicubic(low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 112 112"]:
    """Resize to 112x112 as Pillow's BICUBIC does, in fp32 even under autocast.

    Args:
        low: Image01 batch.

    Returns:
        The resized batch, not clamped: a cubic overshoots [0, 1] by a few percent at strong edges.
    """
    return resize_bicubic(low, size_px=HIGH_SIZE_PX)


def resize_bicubic(
    image: Float[Tensor, "b c h w"], *, size_px: int
) -> Float[Tensor, "b c {size_px} {size_px}"]:
    """Resize any number of channels; see `upsample_bicubic`."""
    if image.shape[-1] == size_px and image.shape[-2] == size_px:
        return image.float()
    with torch.autocast(device_type=image.device.type, enabled=False):
        return functional.interpolate(
            image.float(), size=(size_px, size_px), mode="bicubic", align_corners=False, antialias=True
        )
