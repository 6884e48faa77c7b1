"""Photos of any kind to what a recogniser sees: aligned, brought to a size, super-resolved when small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsrface.data.augment import to_image01
from dsrface.data.decode import ImageU8, read_image
from dsrface.data.photos import detect
from dsrface.data.photos.faces import MIN_NATIVE_SIDE_PX, check_side, nearest_face
from dsrface.engine.inference import embed, super_resolve_mixed
from dsrface.errors import DataError, ImageError
from dsrface.events import Emit, Note, Progress
from dsrface.models.loaded import LoadedModel
from dsrface.models.weights import load_dsr, load_recogniser
from dsrface.runtime.devices import Device
from dsrface.runtime.text import count_text
from dsrface.types import ANY_SIZES_PX, HIGH_SIZE_PX, to_device

_LARGEST_CROP_PX = 64  # an image that small is a face that somebody has cut out, square or not
_HIGH_FROM_PX = 73.0  # nearer to 112 than to the largest of those, as a ratio


@dataclass(frozen=True)
class Face:
    """A face of a photo.

    Args:
        name: Of the photo.
        given: uint8 [S, S, 3], aligned, at the size that the network takes.
        native_px: Side of the face in the photo.
        num_faces: Faces that the detector found; 1 without one.
        is_assumed: A photo that was taken for an aligned face though it has not the size of one.
    """

    name: str
    given: ImageU8
    native_px: float
    num_faces: int = 1
    is_assumed: bool = False


@dataclass(frozen=True)
class Seen:
    """Faces with what the recogniser saw of them.

    Args:
        faces: In order.
        images: uint8 [N, 112, 112, 3].
        embeddings: float32 [N, D], rows of length 1.
    """

    faces: tuple[Face, ...]
    images: NDArray[np.uint8]
    embeddings: NDArray[np.float32]


class FaceReader:
    """Reads the most prominent face of a photo.

    A face that is 112x112 is taken as it is. Other photos are searched by the detector, where there is one; a
    square or small image in which it finds nothing, or for which there is none, is taken for an aligned face.

    Args:
        dsr: Super-resolution network that small faces will go through; None without one.
        align: `auto` or `none`.
    """

    def __init__(self, dsr: LoadedModel | None, *, align: str) -> None:
        self._dsr = dsr
        self._align = align
        self._detector = detect.Detector() if align == "auto" and detect.is_available() else None

    def read(self, path: Path, name: str) -> Face:
        """Return the face of a photo.

        Raises:
            ImageError: unreadable, of fewer pixels than a face can have, or no face in it.
        """
        image = read_image(path)
        check_side(image, MIN_NATIVE_SIDE_PX, where=path)
        height, width = image.shape[:2]
        points, num_faces = None, 1
        is_crop = height == width or max(height, width) <= _LARGEST_CROP_PX
        if (height, width) != (HIGH_SIZE_PX, HIGH_SIZE_PX) and self._detector is not None:
            try:
                points, num_faces = self._detector.landmarks(image)
            except ImageError as error:
                if error.id != "no-face" or not is_crop:
                    raise ImageError(error.message, id=error.id, where=path, hint=error.hint) from None
        if points is None and not is_crop:
            is_searched = self._align == "auto"
            no_detector = ", and there is no detector" if is_searched else ""
            raise ImageError(
                f"The photo is {width}x{height}, no aligned face{no_detector}.",
                id="wrong-size",
                where=path,
                hint="Install the extra `detect`, or crop the faces to squares."
                if is_searched
                else "Crop the faces to squares.",
            )
        face, native_px = nearest_face(image, points, sizes_taken(self._dsr))
        is_assumed = points is None and width > _LARGEST_CROP_PX and width != HIGH_SIZE_PX
        return Face(name, face, native_px, num_faces, is_assumed=is_assumed)


def load_networks(
    weights: Path, dsr: Path | None, device: Device, *, vlr_size: int | None = None
) -> tuple[LoadedModel, LoadedModel | None]:
    """Load a recogniser, and the super-resolution network that small faces go through, if one is named.

    Args:
        weights: Of the recogniser.
        dsr: Of the super-resolution network.
        device: Where both will run.
        vlr_size: Side of the images that the DSR must take, in pixels; None takes any.

    Raises:
        WeightsError: either cannot be loaded.
    """
    recogniser = load_recogniser(weights, device=device.torch_name)
    network = None if dsr is None else load_dsr(dsr, vlr_size=vlr_size, device=device.torch_name)
    return recogniser, network


def sizes_taken(dsr: LoadedModel | None) -> Sequence[int]:
    """Return the sides that a face may be brought to: those that the DSR takes, and 112 px without it.

    Args:
        dsr: Super-resolution network; None without one.
    """
    if dsr is None:
        return (HIGH_SIZE_PX,)
    return (*(ANY_SIZES_PX if dsr.vlr_size is None else (dsr.vlr_size,)), HIGH_SIZE_PX)


def read_faces(
    root: Path, names: Sequence[str], reader: FaceReader, *, on_bad_image: str, emit: Emit
) -> tuple[list[Face], list[dict[str, str]]]:
    """Return the faces of photos, and those left out with name, reason and message.

    Args:
        root: Folder of the photos.
        names: Their names in it.
        reader: Reads one.
        on_bad_image: `fail` or `skip`.
        emit: Takes notes and progress.

    Raises:
        ImageError: a photo cannot be used, and `on_bad_image` is fail.
        DataError: none can.
    """
    faces: list[Face] = []
    skipped: list[dict[str, str]] = []
    for name in names:
        try:
            faces.append(reader.read(root / name, name))
        except ImageError as error:
            if on_bad_image == "fail":
                raise
            skipped.append({"name": name, "reason": error.id, "message": error.message})
            emit(Note(f"skipped {name}: {error.message}", is_warning=True))
        emit(Progress("reading faces", len(faces) + len(skipped), len(names)))
    if not faces:
        raise DataError(
            f"None of {len(names)} photos can be used; the first: {skipped[0]['message']}",
            id="nothing-usable",
            where=root / skipped[0]["name"],
        )
    note_doubts(faces, emit)
    return faces, skipped


def note_doubts(faces: Sequence[Face], emit: Emit) -> None:
    """Warn of photos with several faces, and of those that were taken for aligned faces as they are."""
    several = [face.name for face in faces if face.num_faces > 1]
    if several:
        emit(
            Note(
                f"several faces in {count_text(len(several), 'photo')}, {several[0]} first; the largest is "
                "taken",
                is_warning=True,
            )
        )
    assumed = [face.name for face in faces if face.is_assumed]
    if assumed:
        emit(
            Note(
                f"{count_text(len(assumed), 'photo')} taken for aligned faces as they are, {assumed[0]} "
                "first: no face was looked for, or none found, and other photos give wrong answers. The "
                "extra `detect` looks for faces",
                is_warning=True,
            )
        )


def is_large(face: Face) -> bool:
    """Return whether a face does not need the DSR."""
    side: int = face.given.shape[0]
    return side == HIGH_SIZE_PX


def note_large(faces: Sequence[Face], dsr: LoadedModel | None, emit: Emit) -> None:
    """Warn of faces that do not go through the DSR, whose scores a threshold for small faces does not fit."""
    large = [face.name for face in faces if is_large(face)]
    if dsr is not None and large:
        emit(
            Note(
                f"{count_text(len(large), 'face')} of {len(faces)} seen without the DSR, being large, "
                f"{large[0]} first: a threshold chosen on small faces lets more strangers pass there",
                is_warning=True,
            )
        )


def see(
    faces: Sequence[Face],
    recogniser: LoadedModel,
    dsr: LoadedModel | None,
    *,
    batch_size: int,
    device: Device,
    is_normalised: bool = True,
) -> Seen:
    """Super-resolve what is small, and embed all.

    Args:
        faces: From `read_faces`.
        recogniser: On the device.
        dsr: On the device; None without one.
        batch_size: Images per forward pass.
        device: Where the networks are.
        is_normalised: Give each embedding length 1.
    """
    given = [face.given for face in faces]
    images = (
        np.stack(given)
        if dsr is None
        else super_resolve_mixed(dsr.model, given, batch_size=batch_size, device=device).cpu().numpy()
    )
    embeddings: dict[int, NDArray[np.float32]] = {}
    for is_high in (False, True):
        rows = [number for number, face in enumerate(faces) if (face.native_px >= _HIGH_FROM_PX) == is_high]
        for batch in _batches(rows, batch_size):
            pixels = to_image01(to_device(torch.from_numpy(images[batch]), device.torch_name))
            found = embed(
                recogniser.model,
                pixels,
                recogniser.preprocess,
                device=device,
                is_normalised=is_normalised,
                is_high=is_high,
            )
            embeddings |= dict(zip(batch, found.cpu().numpy(), strict=True))
    return Seen(tuple(faces), images, np.stack([embeddings[row] for row in range(len(faces))]))


def _batches(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])
