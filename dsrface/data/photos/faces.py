"""From one photo to staged faces; free of torch, for the worker processes of `prepare`.

A photo's result depends on the photo, its name and the settings alone, so any number of processes writes the
same bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dsrface.data import draws
from dsrface.data.decode import ImageU8, at_size, encode_png, read_image, write_image_bytes
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.folders import HIGH_FOLDER, low_folder
from dsrface.data.formats.five_points import Points
from dsrface.data.photos.align import ARCFACE_TEMPLATE, align_face, similarity_transform
from dsrface.data.photos.scan import BadPhoto, Photo
from dsrface.data.photos.several import choose_face
from dsrface.data.photos.source import open_source
from dsrface.errors import DataError, ImageError
from dsrface.runtime.files import write_text
from dsrface.types import HIGH_SIZE_PX

MIN_SIDE_PX = 16
MIN_NATIVE_SIDE_PX = 4
THUMB_PX = 24
MIN_HIGH_SHARE = 0.5  # of an HR face's side that the face must have in its photo, or its detail is made up
_NOTES_FOLDER = "several_faces"  # in the staging folder: how many faces a photo has, where there are several


@dataclass(frozen=True)
class FaceJob:
    """What is done to every photo.

    Args:
        source: Folder of the photos, or RecordIO file.
        staging: Folder that gets `hr_images/` and `vlr_images_SxS/`.
        degradations: One for each VLR size.
        align: `none`, `resize`, `landmarks` or `detect`.
        faces: Of several faces in a photo: `largest`, `central` or `refuse`.
        native: Small faces are low-resolution faces without HR twin, not photos to reduce.
        high_px: Side of the HR faces, in pixels.
        is_relative: Landmarks are shares of the photo's width and height.
    """

    source: Path
    staging: Path
    degradations: tuple[Degradation, ...]
    align: str
    faces: str = "largest"
    native: bool = False
    high_px: int = HIGH_SIZE_PX
    is_relative: bool = False


@dataclass(frozen=True, slots=True)
class FaceDone:
    """What is known of a finished photo.

    Args:
        photo: The photo.
        digest: SHA-256 of the face's pixels; equal for equal faces.
        thumb: int8 [THUMB_PX ** 2] as bytes, grey, zero mean; empty once it was stored.
        size_px: Side of the face that was written; of a native face its VLR size.
        native_px: Side of the face in the photo, in pixels of the photo; 0 where it is of no interest, as in
            a photo that is the face, or one that is large enough for its HR face.
        is_aligned: Whether landmarks brought it to the template.
        num_faces: Faces that a detector or the landmarks file has found; 1 without them.
    """

    photo: Photo
    digest: bytes
    thumb: bytes
    size_px: int = HIGH_SIZE_PX
    native_px: float = 0.0
    is_aligned: bool = True
    num_faces: int = 1


class FaceMaker:
    """Makes the faces of one photo after another; a process keeps one, because a detector is slow to load.

    Raises:
        MachineError: the detector is missing.
    """

    def __init__(self, job: FaceJob) -> None:
        self._job = job
        self._source = open_source(job.source)
        self._detector: Any = None
        if job.align == "detect":
            from dsrface.data.photos.detect import Detector

            self._detector = Detector()

    def make(self, photo: Photo, points: Points | None) -> FaceDone | BadPhoto:
        """Write the faces of a photo, unless an interrupted run has done so."""
        try:
            return self._native(photo, points) if self._job.native else self._twins(photo, points)
        except DataError as error:
            return BadPhoto(photo.file, error.id, error.message)

    def _twins(self, photo: Photo, points: Points | None) -> FaceDone:
        job = self._job
        targets = {job.staging / low_folder(item.size_px) / photo.name: item for item in job.degradations}
        target = job.staging / HIGH_FOLDER / photo.name
        note = job.staging / _NOTES_FOLDER / f"{photo.name}.txt"
        if target.exists() and all(item.exists() for item in targets):
            words = note.read_text("utf-8").split() if note.exists() else ["1", "0"]
            return _done(photo, read_image(target), num_faces=int(words[0]), native_px=float(words[1]))
        image = self._source.read(photo.file)
        check_side(image, MIN_SIDE_PX)
        points, num_faces = self._points(image, points)
        native_px = job.high_px if points is None else face_side_px(points)
        native_px = native_px if native_px < MIN_HIGH_SHARE * job.high_px else 0.0
        if num_faces > 1 or native_px:
            write_text(note, f"{num_faces} {native_px}")
        high = (
            at_size(image, job.high_px) if points is None else align_face(image, points, size_px=job.high_px)
        )
        for low_target, degradation in targets.items():
            stream = f"prepare-{degradation.size_px}"
            rng = draws.generator(degradation.seed, 0, draws.name_index(photo.name), stream)
            write_image_bytes(low_target, encode_png(degrade(high, degradation, rng=rng)))
        write_image_bytes(target, encode_png(high))
        return _done(photo, high, num_faces=num_faces, native_px=native_px)

    def _native(self, photo: Photo, points: Points | None) -> FaceDone:
        """Bring a face to the nearest of the VLR sizes and 112 px; what is nearest to 112 is an HR face."""
        image = self._source.read(photo.file)
        check_side(image, MIN_NATIVE_SIDE_PX)
        num_faces = 1
        try:
            points, num_faces = self._points(image, points)
        except ImageError as error:
            if error.id != "no-face":
                raise
        sizes = [*(item.size_px for item in self._job.degradations), HIGH_SIZE_PX]
        face, native_px = nearest_face(image, points, sizes)
        size_px = face.shape[0]
        folder = HIGH_FOLDER if size_px == HIGH_SIZE_PX else low_folder(size_px)
        write_image_bytes(self._job.staging / folder / photo.name, encode_png(face))
        return _done(
            photo,
            face,
            num_faces=num_faces,
            native_px=native_px,
            is_aligned=points is not None or self._job.align in {"none", "resize"},
        )

    def _points(self, image: ImageU8, points: Points | None) -> tuple[Points | None, int]:
        """Return the landmarks, None for a face that is aligned already, and how many faces there are.

        Args:
            image: The photo.
            points: [n, 5, 2] of its faces, as the landmarks file has them.
        """
        height, width = image.shape[:2]
        if points is not None:
            faces = points * (width, height) - 0.5 if self._job.is_relative else points
            sides = np.array([face_side_px(face) for face in faces])
            best = choose_face(self._job.faces, sides, faces.mean(1), (width, height))
            return faces[best], len(faces)
        high_px = self._job.high_px
        if (height, width) == (high_px, high_px):
            return None, 1
        if self._detector is not None:
            found: tuple[Points, int] = self._detector.landmarks(image, self._job.faces)
            return found
        align = self._job.align
        if align == "landmarks":
            raise ImageError("The landmarks file has no points for this photo.", id="no-landmarks")
        if self._job.native or (align == "resize" and height == width > high_px):
            return None, 1
        what = f"not a square larger than {high_px}" if align == "resize" else f"not {high_px}x{high_px}"
        raise ImageError(
            f"The image is {width}x{height}, {what}, and there are no landmarks.", id="wrong-size"
        )


def nearest_face(image: ImageU8, points: Points | None, sizes: Sequence[int]) -> tuple[ImageU8, float]:
    """Return a face at whichever of some sizes is nearest to its own, and the side it has in the photo.

    Args:
        image: The photo.
        points: Landmarks; None for a photo that is the face.
        sizes: Sides to choose from, in pixels.

    Returns:
        uint8 [S, S, 3], and the side in pixels of the photo.
    """
    height, width = image.shape[:2]
    native_px = math.sqrt(width * height) if points is None else face_side_px(points)
    size_px = min(sizes, key=lambda size: abs(math.log(size / native_px)))
    face = at_size(image, size_px) if points is None else align_face(image, points, size_px=size_px)
    return face, native_px


def face_side_px(points: Points) -> float:
    """Return the side of the aligned face in pixels of the photo: what fills the 112 px of the template."""
    matrix = similarity_transform(points, ARCFACE_TEMPLATE)
    return float(HIGH_SIZE_PX / math.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def check_side(image: ImageU8, least_px: int, *, where: str | Path = "") -> None:
    """Refuse an image with a side of fewer pixels.

    Raises:
        ImageError: it is `too-small`.
    """
    height, width = image.shape[:2]
    if min(height, width) < least_px:
        message = f"The image is only {width}x{height}; {least_px} px are needed a side."
        raise ImageError(message, id="too-small", where=where)


def _done(
    photo: Photo, face: ImageU8, *, num_faces: int, native_px: float = 0.0, is_aligned: bool = True
) -> FaceDone:
    small = Image.fromarray(face).convert("L").resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).reshape(-1)
    values = values - values.mean()
    thumb = np.rint(values * (127 / max(float(np.abs(values).max()), 1e-6))).astype(np.int8).tobytes()
    digest = hashlib.sha256(face.tobytes()).digest()
    return FaceDone(photo, digest, thumb, face.shape[0], native_px, is_aligned, num_faces)
