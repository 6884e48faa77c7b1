"""From an HR face to a very-low-resolution one: the one function that `prepare` and training both use.

Every strength is relative to the VLR pixel, so that one setting means the same at 16, 24 and 32 px. With one
fixed kernel in training and another in use, a network sees inputs that differ by more than all it can gain.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from pydantic import TypeAdapter, ValidationError

from dsrface.data.decode import ImageU8
from dsrface.errors import UsageError
from dsrface.runtime.nesting import first_problem

KINDS = ("classic", "realistic")
_REDUCERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX)


@dataclass(frozen=True)
class Degradation:
    """How VLR faces are made.

    Args:
        kind: `classic`: one anti-aliased bicubic reduction. `realistic`: blur, reduction, noise, JPEG, once
            or twice.
        size_px: Side of the VLR face.
        seed: Seed of the data set's own VLR faces (training draws its own).
        blur_sigma: Range of the blur before each reduction, in VLR pixels.
        noise_sigma: Range of the Gaussian noise after each reduction, in fractions of white.
        photons: Range of the photons that make white; fewer mean more Poisson noise.
        jpeg_quality: Range of the JPEG quality after each reduction, 1..100.
        second_probability: Share of faces that go through blur, noise and JPEG a second time, in [0, 1].

    Source:
        Ranges after Real-ESRGAN (Wang et al. 2021) and BSRGAN (Zhang et al. 2021), narrowed for faces of 16
        px.
    """

    kind: str
    size_px: int
    seed: int = 0
    blur_sigma: tuple[float, float] = (0.2, 1.0)
    noise_sigma: tuple[float, float] = (0.0, 0.03)
    photons: tuple[float, float] = (300.0, 3000.0)
    jpeg_quality: tuple[int, int] = (50, 95)
    second_probability: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"There is no degradation {self.kind!r}.", id="bad-degradation", hint="classic, realistic."
            )
        if self.size_px < 4:
            raise UsageError(
                f"A face of {self.size_px} px is too small.", id="bad-degradation", hint="At least 4."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that matter for this kind, as JSON can hold them."""
        values = asdict(self)
        if self.kind == "classic":
            return {"kind": "classic", "size_px": self.size_px}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Degradation:
        """Rebuild from `to_dict`.

        Raises:
            UsageError: unknown or unfitting settings.
        """
        unknown = set(values).difference(item.name for item in fields(cls))
        if unknown:
            raise UsageError(f"Unknown degradation settings: {sorted(unknown)}.", id="bad-degradation")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise UsageError(f"Bad degradation: {first_problem(error)}.", id="bad-degradation") from None


def degrade(high: ImageU8, degradation: Degradation, *, rng: np.random.Generator) -> ImageU8:
    """Return the VLR face.

    Args:
        high: uint8 [H, W, 3] RGB, square, usually 112 px.
        degradation: What to do.
        rng: Source of every draw; `classic` draws nothing.

    Returns:
        uint8 [size_px, size_px, 3] RGB.
    """
    size = degradation.size_px
    image = Image.fromarray(high)
    if degradation.kind == "classic":
        return np.array(image.resize((size, size), Image.Resampling.BICUBIC))
    if rng.random() < degradation.second_probability:
        between = round(size * rng.uniform(1.0, 2.0))
        image = _stage(image, between, size, degradation, rng)
    return np.array(_stage(image, size, size, degradation, rng))


def _stage(
    image: Image.Image, size_px: int, low_size_px: int, settings: Degradation, rng: np.random.Generator
) -> Image.Image:
    """Blur, reduce, add noise, compress; sigmas count in pixels of the final VLR face, at any size here."""
    lr_pixel = image.width / low_size_px
    sigma_x, sigma_y = rng.uniform(*settings.blur_sigma, size=2) * lr_pixel
    image = image.filter(ImageFilter.GaussianBlur((float(sigma_x), float(sigma_y))))
    image = image.resize((size_px, size_px), _REDUCERS[int(rng.integers(len(_REDUCERS)))])
    values = np.asarray(image, np.float64) / 255.0
    if rng.random() < 0.5:
        photons = rng.uniform(*settings.photons)
        values = rng.poisson(values * photons) / photons
    else:
        channels = 1 if rng.random() < 0.4 else 3  # grey noise is as common as coloured noise
        noise = rng.standard_normal((size_px, size_px, channels))
        values = values + noise * rng.uniform(*settings.noise_sigma)
    noisy = Image.fromarray((np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    low, high = settings.jpeg_quality
    buffer = io.BytesIO()
    noisy.save(buffer, format="JPEG", quality=int(rng.integers(low, high + 1)))
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
