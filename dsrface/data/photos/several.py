"""Which of several faces of a photo is the person's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsrface.errors import ImageError


def choose_face(
    rule: str, sizes: NDArray[np.float64], centres: NDArray[np.float64], photo: tuple[int, int]
) -> int:
    """Return the number of the face that a rule takes.

    Args:
        rule: `largest` or `central`, or `refuse`.
        sizes: [n], of the faces, in any unit.
        centres: [n, 2], in pixels.
        photo: Width and height of the photo, in pixels.

    Raises:
        ImageError: several faces and `refuse`.
    """
    if len(sizes) > 1 and rule == "refuse":
        raise ImageError(f"There are {len(sizes)} faces in the photo.", id="several-faces")
    if rule == "central":
        return int(np.argmin(np.linalg.norm(centres - np.array(photo) / 2, axis=1)))
    return int(np.argmax(sizes))
