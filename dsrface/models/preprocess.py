"""From an image in [0, 1] to what a network wants."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dsrface.errors import WeightsError
from dsrface.models.resize import resize_bicubic
from dsrface.types import Preprocess


def network_input(
    image: Float[Tensor, "b 3 h w"], preprocess: Preprocess
) -> Float[Tensor, "b 3 {preprocess.size_px} {preprocess.size_px}"]:
    """Map an Image01 batch of any size to what a network wants: its size first, then `normalise`."""
    return normalise(resize_bicubic(image, size_px=preprocess.size_px), preprocess)


def normalise(image: Float[Tensor, "b 3 h w"], preprocess: Preprocess) -> Float[Tensor, "b 3 h w"]:
    """Map an Image01 batch to what a network wants: colour order, then (x - mean) / std per channel."""
    if preprocess.colour == "BGR":
        image = image.flip(1)
    mean, std = _constants(preprocess, image.device, image.dtype)
    return (image - mean) / std


def read_preprocess(path: Path, default: Preprocess) -> Preprocess:
    """Return how a network of others wants its images, as `<file>.toml` next to its file says.

    The note may hold any of `size_px`, `mean`, `std` and `colour`; what it leaves out, or a missing note,
    is `default`.

    Raises:
        WeightsError: the note cannot be used.
    """
    note = path.with_name(f"{path.name}.toml")
    if not note.is_file():
        return default
    try:
        return adjusted(default, tomllib.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise WeightsError(
            f"The note on how the network wants its images cannot be used: {error}.",
            id="weights-metadata",
            where=note,
            hint='For example: colour = "BGR" and, in lines of their own, mean = [0.5, 0.5, 0.5], '
            "std = [0.5, 0.5, 0.5], size_px = 112.",
        ) from None


def adjusted(default: Preprocess, changes: Mapping[str, Any]) -> Preprocess:
    """Return `default` with some of its values changed.

    Raises:
        ValueError, TypeError: an unknown key or an impossible value.
    """
    values = asdict(default)
    if unknown := changes.keys() - values.keys():
        raise ValueError(f"unknown key {min(unknown)!r}; known are {', '.join(values)}")
    return Preprocess.from_dict({**values, **changes})


@lru_cache(maxsize=64)
def _constants(preprocess: Preprocess, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and std on the device; made once, as every such copy makes the host wait for a GPU."""
    with torch.inference_mode(False):  # else the first caller decides whether others may train with them
        mean = torch.tensor(preprocess.mean, device=device, dtype=dtype).view(1, 3, 1, 1)
        return mean, torch.tensor(preprocess.std, device=device, dtype=dtype).view(1, 3, 1, 1)
