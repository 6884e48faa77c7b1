"""PSNR and SSIM of every image of a batch, on whatever device the batch is on.

Letters: b images, c channels, h rows, w columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
_K1, _K2 = 0.01, 0.03
_LUMA = (65.481, 128.553, 24.966)
_CHUNK = 32  # images that SSIM's five filtered maps are held for at once


def psnr_db(
    a: Shaped[Tensor, "b c h w"], b: Shaped[Tensor, "b c h w"], *, data_range: float = 1.0
) -> Float[Tensor, " b"]:
    """Return the peak signal-to-noise ratio of each image, over all its channels and pixels.

    Args:
        a: Images; floats in [0, data_range], or uint8, which is scaled to that range before anything is
            subtracted (bytes would wrap around).
        b: The images to compare with, of the same shape.
        data_range: Largest value that floats can take.

    Returns:
        dB, one value per image; inf where both images are equal.

    Source:
        10 log10(data_range^2 / MSE). Oracle in tests: skimage.metrics.peak_signal_noise_ratio.
    """
    error = (_scaled(a, data_range) - _scaled(b, data_range)).square().flatten(1).mean(dim=1)
    return 10.0 * torch.log10(data_range**2 / error)


def luma(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return Y of YCbCr of Image01, in [16/255, 235/255]: published tables give the PSNR of it.

    Source:
        ITU-R BT.601, as MATLAB's rgb2ycbcr. Oracle in tests: skimage.color.rgb2ycbcr.
    """
    weights = torch.tensor(_LUMA, device=image.device).view(1, 3, 1, 1)
    return (16.0 + (image.float() * weights).sum(dim=1, keepdim=True)) / 255.0


def ssim(
    a: Shaped[Tensor, "b c h w"], b: Shaped[Tensor, "b c h w"], *, data_range: float = 1.0
) -> Float[Tensor, " b"]:
    """Return the structural similarity of each image, mean over channels and over whole windows.

    A Gaussian window of 11x11 px with sigma 1.5 px, population covariance, K1 = 0.01, K2 = 0.03; windows that
    would reach over the border are left out.

    Args:
        a: As in `psnr_db`; at least 11x11 px.
        b: The images to compare with, of the same shape.
        data_range: Largest value that floats can take.

    Returns:
        One value per image, in [-1, 1]; 1 where both images are equal.

    Source:
        Wang, Bovik, Sheikh, Simoncelli 2004. Oracle in tests: skimage.metrics.structural_similarity with
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False.
    """
    if min(a.shape[-2:]) < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM needs {SSIM_WINDOW_PX} px a side, not {tuple(a.shape[-2:])}")
    chunks = zip(torch.split(a, _CHUNK), torch.split(b, _CHUNK), strict=True)
    return torch.cat([_ssim(_scaled(x, data_range), _scaled(y, data_range), data_range) for x, y in chunks])


def _scaled(image: Tensor, data_range: float) -> Tensor:
    if image.dtype == torch.uint8:
        return image.float() * (data_range / 255)
    return image.float()  # half precision would round away the difference that is measured


def _ssim(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    with torch.autocast(device_type=a.device.type, enabled=False):
        # Variances do not change with the mean; without it, fp32 keeps their digits.
        shift_a, shift_b = a.mean(dim=(2, 3), keepdim=True), b.mean(dim=(2, 3), keepdim=True)
        x, y = a - shift_a, b - shift_b
        mean_x, mean_y, xx, yy, xy = _filtered(torch.stack([x, y, x * x, y * y, x * y]))
        var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        mean_a, mean_b = mean_x + shift_a, mean_y + shift_b
        c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
        light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        structure = (2 * covariance + c2) / (var_x + var_y + c2)
        found: Tensor = (light * structure).flatten(1).mean(dim=1)
        return found


def _filtered(maps: Tensor) -> Tensor:
    """Return Gaussian means of maps [5, b, c, h, w] at every place where the whole window fits.

    As two products with matrices that hold the window in every row: on a CPU ten times as fast as
    convolutions of one channel.
    """
    over_rows, over_columns = (_windows(side, maps) for side in maps.shape[-2:])
    return over_rows @ maps @ over_columns.T


def _windows(side: int, like: Tensor) -> Float[Tensor, "m n"]:
    """Return the Gaussian window at each of its places along a side, one a row."""
    radius = SSIM_WINDOW_PX // 2
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    window = torch.exp(-(place**2) / (2 * SSIM_SIGMA_PX**2))
    matrix = torch.zeros(side - 2 * radius, side, dtype=torch.float64)
    for offset, weight in enumerate((window / window.sum()).tolist()):
        matrix.diagonal(offset).fill_(weight)
    return matrix.to(like.device, like.dtype)
