"""What a recogniser is validated on: images in memory, and which of them are compared with which.

Letters: N images, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsrface.config.fields import GeometryConfig
from dsrface.data.augment import augment_pair, geometry_of, to_image_u8
from dsrface.data.names import PackedStrings
from dsrface.engine.inference import Images
from dsrface.metrics.verification import auc, d_prime, eer

_PART = 256  # images that are moved at once


@dataclass(frozen=True)
class RecognitionImages:
    """What is validated, in memory.

    Args:
        val: Validation persons, for verification.
        holdout: Kept-out images of the training persons, for closed-set accuracy; None without any.
        names: Names of the training samples.
        conditions: What thresholds chosen on `val` hold for; see `StoredThresholds`.
        has_twins: HR faces are the gallery; else the faces are compared with one another.
        are_alone: No person has two images, so a moved copy of an image is compared with that image.
    """

    val: Images
    holdout: Images | None
    names: PackedStrings
    conditions: dict[str, Any]
    has_twins: bool = True
    are_alone: bool = False


def moved_copies(images: Tensor, geometry: GeometryConfig, *, seed: int) -> Tensor:
    """Return uint8 [N, 112, 112, 3] images mirrored and moved, each always in the same way."""
    always = replace(geometry_of(geometry), flip=1.0)
    parts = []
    for start in range(0, len(images), _PART):
        part = images[start : start + _PART]
        places = np.arange(start, start + len(part))
        moved, _ = augment_pair(part, part, geometry=always, colour=None, seed=seed, epoch=0, indices=places)
        parts.append(to_image_u8(moved))
    return torch.cat(parts)


def compare(
    gallery: Tensor, probes: Tensor, labels: Tensor, *, with_own_photo: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of gallery images with probes of other photos, and which pairs are one person's.

    Args:
        gallery: float32 [N, D], normalised.
        probes: float32 [N, D], of the same photos in the same order.
        labels: int64 [N].
        with_own_photo: A probe meets its own photo as well.
    """
    scores = gallery @ probes.T
    is_same = labels[:, None] == labels[None, :]
    is_compared = torch.ones_like(is_same) if with_own_photo else ~torch.eye(len(labels), dtype=torch.bool)
    return scores[is_compared].double().numpy(), is_same[is_compared].numpy()


def verification_metrics(scores: np.ndarray, is_same: np.ndarray) -> dict[str, float]:
    """Return AUC, EER and d-prime of one set of pairs."""
    return {
        "auc": float(auc(scores, is_same)),
        "eer": float(eer(scores, is_same)),
        "d_prime": float(d_prime(scores, is_same)),
    }
