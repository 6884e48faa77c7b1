"""Five points of a face out of the numbers that detectors write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrface.errors import DataError

Points = NDArray[np.float64]

NUM_POINTS = 5
_IBUG_POINTS = 68
_IBUG_EYES, _IBUG_OTHERS = (slice(36, 42), slice(42, 48)), (30, 48, 54)  # nose tip, corners of the mouth
_SCORED_BOX = 5  # a box and its score, before the points in a row of RetinaFace
_MOST_VISIBLE = 2.0  # COCO's flags are 0, 1 and 2; scores are at most 1
_NOTHING = {"", "nan", "none", "null", "na", "n/a"}  # in the place of a number, where no face was found
# An upright face, roughly, as complex numbers: for how points are ordered, not for where they belong.
_FACE_SHAPE = np.array([-1 - 0.7j, 1 - 0.7j, 0.4j, -0.8 + 1.5j, 0.8 + 1.5j])
_GOOD_FIT, _BAD_FIT = 0.8, 0.6  # of the points of a face, profiles among them; of numbers in another order
COUNTS = tuple(count * size for count in (NUM_POINTS, _IBUG_POINTS) for size in (2, 3))


def five_points(values: Sequence[Any], where: str) -> Points:
    """Return the eye at the viewer's left, the one at the right, nose tip, left and right mouth corner.

    Args:
        values: Five points as x and y, or x, y and a score each; the 68 points of iBUG (dlib, FFHQ, OpenFace)
            likewise; or a row of RetinaFace, a box and a score before the five points.
        where: Place of the numbers, for messages.

    Returns:
        float64 [5, 2]; all NaN where every number is left empty, as for a photo without a face.

    Raises:
        DataError: another number of values, or one that is no finite number; id `bad-landmarks`.

    Source:
        Sagonas et al. 2013, 300 Faces in-the-Wild, for the order of the 68 points.
    """
    numbers = np.array([float(value) if is_number(value) else np.nan for value in values])
    if len(numbers) not in COUNTS:
        raise DataError(
            f"{2 * NUM_POINTS} numbers are needed, five points; there are {len(numbers)}.",
            id="bad-landmarks",
            where=where,
        )
    points = _without_scores(numbers)
    if not np.isfinite(points).all() and not all(str(value).strip().lower() in _NOTHING for value in values):
        raise DataError("A landmark is not a number.", id="bad-landmarks", where=where)
    if len(points) == NUM_POINTS:
        return points
    eyes = [points[part].mean(0) for part in _IBUG_EYES]
    return np.stack([*eyes, *(points[number] for number in _IBUG_OTHERS)])


def _without_scores(numbers: Points) -> Points:
    if len(numbers) % 3:
        return numbers.reshape(-1, 2)
    rows = numbers.reshape(-1, 3)
    is_box = len(rows) == NUM_POINTS and not (rows[:, 2] <= _MOST_VISIBLE).all()
    return numbers[_SCORED_BOX:].reshape(-1, 2) if is_box else rows[:, :2]


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or the text of one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_no_face(points: Points) -> bool:
    """Return whether points are those of no face: empty, or all in one place, such as -1 or 0."""
    return not np.isfinite(points).all() or bool((points == points[0]).all())


def are_relative(landmarks: Mapping[str, Points]) -> bool:
    """Return whether all points are shares of the image's width and height, as YOLO writes them."""
    return all((points >= 0).all() and (points <= 1).all() for points in landmarks.values())


def turn_round(landmarks: Mapping[str, Points]) -> dict[str, Points] | None:
    """Return the points with left and right exchanged when every face of a file has them as the person has.

    One image cannot say whether a face is mirrored or names are exchanged, but a whole file of them can.

    Args:
        landmarks: [n, 5, 2] by file.

    Returns:
        The exchanged points; None when they are in the viewer's order, or in both orders.
    """
    if not landmarks or not all(_is_mirrored(face) for faces in landmarks.values() for face in faces):
        return None
    return {name: points[:, [1, 0, 2, 4, 3]] for name, points in landmarks.items()}


def join_axes(landmarks: Mapping[str, Points]) -> dict[str, Points] | None:
    """Return the points of a file that has all x before all y of a face, as the first MTCNN writes them.

    Args:
        landmarks: [n, 5, 2] by file, read as x and y in turns.

    Returns:
        The points; None when half of the faces or more are faces as they were read.
    """
    if not landmarks:
        return None
    joined = {name: faces.reshape(-1, 2, NUM_POINTS).transpose(0, 2, 1) for name, faces in landmarks.items()}
    is_other = _median_fit(landmarks) < _BAD_FIT and _median_fit(joined) > _GOOD_FIT
    return joined if is_other else None


def _median_fit(landmarks: Mapping[str, Points]) -> float:
    """Return how much of the spread of points an upright face explains, turned and scaled; 1 is all."""
    points = np.concatenate(list(landmarks.values())) @ np.array([1, 1j])
    shape = _FACE_SHAPE - _FACE_SHAPE.mean()
    points = points - points.mean(1, keepdims=True)
    # A sum without the conjugate is the fit of the mirrored face.
    found = np.maximum(abs(points @ shape.conj()), abs(points @ shape)) ** 2
    return float(np.median(found / ((abs(points) ** 2).sum(1) * (abs(shape) ** 2).sum())))


def _is_mirrored(points: Points) -> bool:
    across = points[1] - points[0]
    down = points[3:].mean(0) - points[:2].mean(0)
    return bool(across[0] * down[1] - across[1] * down[0] < 0)
