from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dsrface.data import draws
from dsrface.data.augment import Geometry
from dsrface.data.decode import read_image
from dsrface.data.degrade import Degradation, degrade
from dsrface.errors import UsageError


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((first.astype(float) - second.astype(float)) ** 2).mean()))


@pytest.mark.parametrize("size_px", [16, 24, 32])
def test_classic_is_pillows_antialiased_bicubic(faces_dir: Path, size_px: int) -> None:
    face = read_image(faces_dir / "london" / "003" / "003_0001.jpg")
    low = degrade(face, Degradation("classic", size_px), rng=draws.generator(0, 0, 0, "a"))
    wanted = Image.fromarray(face).resize((size_px, size_px), Image.Resampling.BICUBIC, reducing_gap=None)
    assert (low == np.asarray(wanted)).all()


@given(
    kind=st.sampled_from(["classic", "realistic"]),
    size_px=st.sampled_from([8, 16, 24, 32, 56]),
    seed=st.integers(0, 2**40),
    level=st.integers(0, 255),
)
@settings(max_examples=40, deadline=None)
def test_range_and_shape_hold_and_the_seed_decides(kind: str, size_px: int, seed: int, level: int) -> None:
    face = np.full((112, 112, 3), level, np.uint8)
    settings_ = Degradation(kind, size_px)
    first, second = (degrade(face, settings_, rng=draws.generator(seed, 1, 2, "a")) for _ in range(2))
    assert first.shape == (size_px, size_px, 3)
    assert first.dtype == np.uint8
    assert (first == second).all()
    assert abs(float(first.mean()) - level) < 25


def test_realistic_differs_from_classic_and_between_images(faces_dir: Path) -> None:
    face = read_image(faces_dir / "london" / "003" / "003_0001.jpg")
    settings_ = Degradation("realistic", 16)
    lows = [degrade(face, settings_, rng=draws.generator(0, 0, index, "a")) for index in range(40)]
    classic = degrade(face, Degradation("classic", 16), rng=draws.generator(0, 0, 0, "a"))
    distances = [psnr_db(low, classic) for low in lows]
    assert 15 < np.median(distances) < 34
    assert len({low.tobytes() for low in lows}) == 40


def test_strength_counts_in_lr_pixels() -> None:
    """An edge must be blurred over as many VLR pixels at 32 px as at 16 px."""
    edge = np.zeros((112, 112, 3), np.uint8)
    edge[:, 56:] = 255
    widths = []
    for size_px in (16, 32):
        settings_ = Degradation(
            "realistic",
            size_px,
            blur_sigma=(1.5, 1.5),
            noise_sigma=(0, 0),
            photons=(1e9, 1e9),
            jpeg_quality=(100, 100),
            second_probability=0,
        )
        low = degrade(edge, settings_, rng=draws.generator(0, 0, 0, "a"))[size_px // 2, :, 0].astype(float)
        widths.append(255 / np.abs(np.diff(low)).max())
    assert abs(widths[0] - widths[1]) / widths[0] < 0.25


def test_turning_a_reduced_image_is_not_reducing_a_turned_one(faces_dir: Path) -> None:
    """Why the geometry comes first: the wrong order costs more than super-resolution gains."""
    geometry = Geometry(flip=0.0, rotate_deg=10, scale=0.0, shift_px=0.0)
    classic = Degradation("classic", 16)
    worst = []
    for index in range(6):
        face = read_image(faces_dir / "london" / "003" / "003_0001.jpg")
        rng = draws.generator(0, 0, index, "a")
        right = degrade(geometry.apply(face, seed=0, epoch=0, index=index), classic, rng=rng)
        wrong = geometry.apply(degrade(face, classic, rng=rng), seed=0, epoch=0, index=index)
        worst.append(psnr_db(right, wrong))
    assert min(worst) < 32


def test_settings_survive_json() -> None:
    for settings_ in (Degradation("classic", 24), Degradation("realistic", 16, 7, blur_sigma=(0.1, 0.4))):
        assert Degradation.from_dict(settings_.to_dict()) == settings_
    with pytest.raises(UsageError):
        Degradation.from_dict({"kind": "classic", "size_px": 16, "sharpen": 3})
    with pytest.raises(UsageError, match="blur_sigma"):
        Degradation.from_dict({"kind": "classic", "size_px": 16, "blur_sigma": "x"})
    with pytest.raises(UsageError):
        Degradation("lanczos", 16)
