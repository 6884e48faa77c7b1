"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrface.metrics.image_quality import luma, psnr_db, ssim


def two_batches(seed: int, size: int = 40, num: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (num, 3, size, size), dtype=np.uint8)
    noise = rng.normal(0, 60, first.shape)
    return first, np.clip(first + noise, 0, 255).astype(np.uint8)


def oracle_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    from skimage.metrics import structural_similarity

    return structural_similarity(
        a,
        b,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
    )


def test_psnr__uint8_equals_skimage_and_does_not_wrap() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    first, second = two_batches(0)
    ours = psnr_db(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    oracle = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ours, oracle, rtol=1e-5)
    wrapped = (first - second).astype(np.float64)  # the mistake: the difference of bytes taken as a byte
    assert abs(10 * np.log10(255**2 / np.mean(wrapped[0] ** 2)) - ours[0]) > 1


def test_luma__is_that_of_published_tables() -> None:
    from skimage.color import rgb2ycbcr

    images, _ = two_batches(1)
    ours = luma(torch.from_numpy(images) / 255).numpy()[:, 0] * 255
    oracle = np.stack([rgb2ycbcr(image.transpose(1, 2, 0))[..., 0] for image in images])
    np.testing.assert_allclose(ours, oracle, atol=1e-3)


def test_psnr__black_against_white_is_zero() -> None:
    black, white = (
        torch.zeros(1, 3, 12, 12, dtype=torch.uint8),
        torch.full((1, 3, 12, 12), 255, dtype=torch.uint8),
    )
    assert psnr_db(black, white).item() == pytest.approx(0, abs=1e-5)
    assert psnr_db(black, white, data_range=255).item() == pytest.approx(0, abs=1e-5)


def test_psnr__closed_form() -> None:
    a = torch.full((2, 3, 12, 12), 0.5)
    assert psnr_db(a, a + 0.1).tolist() == pytest.approx([20, 20], abs=1e-3)


def test_psnr__equal_images_are_infinitely_alike() -> None:
    first, _ = two_batches(1)
    a = torch.from_numpy(first)
    assert torch.isposinf(psnr_db(a, a)).all()
    assert ssim(a, a).tolist() == pytest.approx([1, 1, 1])


def test_psnr__per_image_not_per_batch() -> None:
    first, second = (torch.from_numpy(x) for x in two_batches(2))
    alone = torch.cat([psnr_db(first[i : i + 1], second[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(psnr_db(first, second), alone)


@pytest.mark.parametrize("size", [11, 40, 112])
def test_ssim__equals_skimage(size: int) -> None:
    first, second = two_batches(3, size=size)
    ours = ssim(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    oracle = [oracle_ssim(a, b, 255) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ours, oracle, atol=2e-6)


def test_ssim__flat_and_smooth_images_keep_their_digits() -> None:
    ramp = np.linspace(0.6, 0.62, 64 * 64).reshape(1, 64, 64).repeat(3, axis=0)
    other = ramp + 0.004 * np.sin(np.arange(64))[None, None]
    ours = ssim(torch.from_numpy(ramp)[None].float(), torch.from_numpy(other)[None].float()).item()
    assert ours == pytest.approx(oracle_ssim(ramp, other, 1.0), abs=2e-5)


def test_ssim__more_than_a_chunk_and_all_input_kinds_agree() -> None:
    first, second = (torch.from_numpy(x) for x in two_batches(4, size=16, num=40))
    expected = ssim(first, second)
    torch.testing.assert_close(ssim(first.float() / 255, second.float() / 255), expected)
    torch.testing.assert_close(ssim(first.float(), second.float(), data_range=255.0), expected)
    torch.testing.assert_close(ssim(first, second.float() / 255), expected)
    torch.testing.assert_close(ssim(first.double() / 255, second), expected)


def test_ssim__too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="11 px"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_both__are_symmetric(seed: int) -> None:
    first, second = (torch.from_numpy(x) for x in two_batches(seed, size=12, num=1))
    torch.testing.assert_close(psnr_db(first, second), psnr_db(second, first))
    torch.testing.assert_close(ssim(first, second), ssim(second, first))


def test_real_faces__bicubic_16px_reads_as_skimage_says(faces_dir) -> None:
    from PIL import Image
    from skimage.metrics import peak_signal_noise_ratio

    path = min((faces_dir / "london").rglob("*.jpg"))
    high = Image.open(path).convert("RGB")
    low = high.resize((16, 16), Image.Resampling.BICUBIC).resize((112, 112), Image.Resampling.BICUBIC)
    a, b = np.asarray(high).copy(), np.asarray(low).copy()
    ours = psnr_db(*(torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b))).item()
    assert ours == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-4)
    assert 18 < ours < 28
