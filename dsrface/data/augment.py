"""Geometry and colour drawn per sample, from (seed, epoch, index) alone, on the host or on the device.

Both twins of a pair get the same draws. `Geometry.apply` moves one HR image in a worker, before it is
degraded; `augment_pair` moves a whole uint8 batch on the device. torchvision draws one set of parameters a
call, so the per-sample draws are made here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from dsrface.config.fields import GeometryConfig
from dsrface.data import draws
from dsrface.data.decode import ImageU8
from dsrface.types import to_device


@dataclass(frozen=True)
class Geometry:
    """How far a face may be moved.

    Args:
        flip: Probability of a left-right flip.
        rotate_deg: Largest rotation either way, in degrees.
        scale: Largest change of size, as a fraction.
        shift_px: Largest shift along each axis, in pixels of the image that is moved.
    """

    flip: float = 0.5
    rotate_deg: float = 5.0
    scale: float = 0.05
    shift_px: float = 4.0

    def matrices(
        self, *, seed: int, epoch: int, indices: NDArray[np.int64], size_px: int
    ) -> NDArray[np.float64]:
        """Return where each output pixel is read from.

        Returns:
            float64 [B, 2, 3], from output to input coordinates in pixels, pixel centres at .5.
        """
        flip, angle, size, dx, dy = draws.uniform(seed, epoch, indices, num=5, stream="geometry").T
        sign = np.where(flip < self.flip, -1.0, 1.0)
        turn = np.radians((2 * angle - 1) * self.rotate_deg)
        zoom = 1.0 / (1.0 + (2 * size - 1) * self.scale)
        rows = (
            np.stack([sign * np.cos(turn), -np.sin(turn), sign * np.sin(turn), np.cos(turn)], axis=1).reshape(
                -1, 2, 2
            )
            * zoom[:, None, None]
        )
        centre = np.full(2, size_px / 2)
        shift = (2 * np.stack([dx, dy], axis=1) - 1) * self.shift_px
        offset = centre - np.einsum("bij,bj->bi", rows, centre + shift)
        return np.concatenate([rows, offset[:, :, None]], axis=2)

    def apply(self, high: ImageU8, *, seed: int, epoch: int, index: int) -> ImageU8:
        """Return the image moved as the draws of (seed, epoch, index) say, its border continued outwards.

        Args:
            high: uint8 [S, S, 3].
            seed: Seed of the run.
            epoch: 0-based.
            index: Position of the sample.
        """
        size_px = high.shape[0]
        matrix = self.matrices(seed=seed, epoch=epoch, indices=np.array([index]), size_px=size_px)[0]
        pad = 4 + math.ceil(
            self.shift_px + size_px * (0.5 * math.radians(self.rotate_deg) + 0.5 * self.scale)
        )
        padded = np.pad(high, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        (a, b, c), (d, e, f) = matrix.tolist()
        moved = Image.fromarray(padded).transform(
            (size_px, size_px),
            Image.Transform.AFFINE,
            (a, b, c + pad, d, e, f + pad),
            resample=Image.Resampling.BICUBIC,
        )
        return np.asarray(moved)

    def flips(self, *, seed: int, epoch: int, index: int) -> bool:
        """Return whether this sample is mirrored; the same draw that `matrices` uses."""
        draw = draws.uniform(seed, epoch, np.array([index]), num=1, stream="geometry")[0, 0]
        return bool(draw < self.flip)


def geometry_of(config: GeometryConfig) -> Geometry:
    """Return the geometry of a configuration, or of a table that has more to say."""
    return Geometry(config.flip, config.rotate_deg, config.scale, config.shift_px)


@dataclass(frozen=True)
class Colour:
    """How far the light may change.

    Args:
        brightness: Largest change, of the full range.
        contrast: Largest change, as a fraction, about each image's mean.
    """

    brightness: float = 0.0
    contrast: float = 0.0


def to_image01(images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Return a uint8 batch as floats in [0, 1], channels first, on its device."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def to_image_u8(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w 3"]:
    """Return floats as a uint8 batch, clamped to [0, 1] and rounded, like every image on disk."""
    return images.float().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def augment_pair(
    inputs: UInt8[Tensor, "b h w 3"],
    high: UInt8[Tensor, "b h w 3"],
    *,
    geometry: Geometry | None,
    colour: Colour | None,
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]:
    """Move and light both twins of each pair alike.

    Args:
        inputs: DSR outputs, on the device.
        high: Their HR twins.
        geometry: None leaves the pixels where they are.
        colour: None leaves the light.
        seed: Seed of the run.
        epoch: 0-based.
        indices: int64 [B], positions of the samples.

    Returns:
        Both as Image01.
    """
    pair = torch.cat([to_image01(inputs), to_image01(high)], dim=1)
    if geometry is not None and (geometry.flip or geometry.rotate_deg or geometry.scale or geometry.shift_px):
        pair = _moved(
            pair, geometry.matrices(seed=seed, epoch=epoch, indices=indices, size_px=pair.shape[-1])
        )
    if colour is not None and (colour.brightness or colour.contrast):
        draw = draws.uniform(seed, epoch, indices, num=2, stream="colour") * 2 - 1
        change = to_device(torch.from_numpy(draw), pair.device, torch.float32)[:, :, None, None, None]
        stacked = pair.view(len(pair), 2, 3, *pair.shape[2:])
        mean = stacked.mean(dim=(2, 3, 4), keepdim=True)
        gain = 1 + change[:, 1:2] * colour.contrast
        pair = ((stacked - mean) * gain + mean + change[:, :1] * colour.brightness).clamp(0, 1).flatten(1, 2)
    return pair[:, :3], pair[:, 3:]


def _moved(images: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Resample each image by its own matrix (bilinear, borders continued)."""
    size_px = images.shape[-1]
    # Pixels to the [-1, 1] of grid_sample: x = size (u + 1) / 2.
    rows = matrices[:, :, :2]
    offset = (rows.sum(axis=2) * size_px / 2 + matrices[:, :, 2]) * 2 / size_px - 1
    theta = torch.from_numpy(np.concatenate([rows, offset[:, :, None]], axis=2))
    theta = to_device(theta, images.device, images.dtype)
    edge = 1 - 1 / size_px  # where the outermost pixels' centres lie
    # Inside, affine_grid multiplies matrices: autocast would round the places to a third of a pixel.
    with torch.autocast(device_type=images.device.type, enabled=False):
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        # Clamped here, as MPS has no padding_mode="border" before torch 2.13.
        return functional.grid_sample(images, grid.clamp(-edge, edge), mode="bilinear", align_corners=False)
