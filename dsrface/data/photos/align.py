"""Faces turned, scaled and moved onto the five points that recognisers are trained with."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from dsrface.data.decode import ImageU8
from dsrface.data.formats.five_points import Points
from dsrface.errors import DataError
from dsrface.types import HIGH_SIZE_PX

# Eye and mouth corner at the viewer's left, then right, around the nose tip; for 112 px. Source: ArcFace
# (insightface).
ARCFACE_TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_MAX_SUPERSAMPLING = 8


def similarity_transform(source: Points, target: Points) -> Points:
    """Return the rotation, scale and shift that bring points closest to others, without mirroring.

    Args:
        source: [N, 2], x and y.
        target: [N, 2].

    Returns:
        [2, 3]; `target ~ source @ M[:, :2].T + M[:, 2]`.

    Raises:
        DataError: the source points are not finite or fall together.

    Source:
        Umeyama 1991, least squares.
    """
    if not np.isfinite(source).all():
        raise DataError("Landmarks are not finite numbers.", id="bad-landmarks")
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred, wanted = source - mean_source, target - mean_target
    variance = (centred**2).sum() / len(source)
    if variance < 1e-6:
        raise DataError("The landmarks fall together in one point.", id="bad-landmarks")
    left, singular, right = np.linalg.svd(wanted.T @ centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    scale = (singular * signs).sum() / variance
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = mean_target - matrix[:, :2] @ mean_source
    return matrix


def align_face(image: ImageU8, landmarks: Points, *, size_px: int = HIGH_SIZE_PX) -> ImageU8:
    """Return the face on the template, uint8 [size_px, size_px, 3], black where the image ends.

    The image is sampled at least as finely as its own pixels and then reduced, so that a large photo gives
    no aliasing.

    Args:
        image: uint8 [H, W, 3] RGB.
        landmarks: [5, 2] in pixels of `image`, (0, 0) the centre of the first pixel, in the template's order.
        size_px: Side of the result; the template is scaled with it.

    Raises:
        DataError: landmarks that fall together, lie outside the image, or are mirrored by their order.
    """
    _check_points(landmarks, width=image.shape[1], height=image.shape[0])
    template = (ARCFACE_TEMPLATE + 0.5) * (size_px / HIGH_SIZE_PX) - 0.5
    matrix = similarity_transform(landmarks, template)
    source = Image.fromarray(image)
    zoom = math.sqrt(abs(np.linalg.det(matrix[:, :2])))  # result pixels per image pixel
    halvings = 1
    while zoom * halvings < 1 / _MAX_SUPERSAMPLING:
        halvings *= 2
    if halvings > 1:
        source = source.reduce(halvings)
    fine = min(_MAX_SUPERSAMPLING, max(2, math.ceil(1 / (zoom * halvings))))
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    # From the centre of a fine pixel to the image; Pillow adds half a pixel on both sides by itself.
    to_result = np.array([[1 / fine, 0, -0.5], [0, 1 / fine, -0.5], [0, 0, 1]])
    to_reduced = np.array([[1 / halvings, 0, 0.5 / halvings], [0, 1 / halvings, 0.5 / halvings], [0, 0, 1]])
    whole = to_reduced @ inverse @ to_result
    big = source.transform(
        (size_px * fine, size_px * fine),
        Image.Transform.AFFINE,
        tuple(whole[:2].reshape(-1)),
        resample=Image.Resampling.BICUBIC,
    )
    return np.array(big.resize((size_px, size_px), Image.Resampling.LANCZOS))


def _check_points(landmarks: Points, *, width: int, height: int) -> None:
    """Refuse the points of another image, or in another order: the face would be wrecked in silence."""
    x, y = landmarks.mean(0)
    if not (0 <= x < width and 0 <= y < height):
        raise DataError(
            f"The landmarks lie around ({x:.0f}, {y:.0f}), outside the image of {width}x{height}.",
            id="bad-landmarks",
        )
    template = ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)
    if np.linalg.det(template.T @ (landmarks - landmarks.mean(0))) < 0:
        raise DataError(
            "The landmarks are mirrored: left is the side at the viewer's left.", id="bad-landmarks"
        )
