"""From a folder of photos to staged 112x112 and VLR faces, one photo at a time; free of torch, for worker
processes.

A photo's result depends on the photo, its name and the settings alone, so any number of processes writes the
same bytes.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsrface.data import draws
from dsrface.data.align import Points, align_face
from dsrface.data.decode import ImageU8, encode_png, read_image, write_picture_bytes
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.folders import HIGH_FOLDER, low_folder
from dsrface.data.photo_scan import BadPhoto, Photo
from dsrface.errors import DataError, ImageError, WorkerError
from dsrface.types import HIGH_SIZE_PX

MIN_SIDE_PX = 16
THUMB_PX = 24
CHUNK_PHOTOS = 32  # photos handed to a worker process at once


@dataclass(frozen=True)
class FaceJob:
    """What is done to every photo.

    Args:
        source: Folder of the photos.
        staging: Folder that gets `hr_images/` and `vlr_images_SxS/`.
        degradations: One for each VLR size.
        align: `none`, `landmarks` or `detect`.
    """

    source: Path
    staging: Path
    degradations: tuple[Degradation, ...]
    align: str


@dataclass(frozen=True)
class FaceDone:
    """What is known of a finished photo.

    Args:
        photo: The photo.
        high_sha256: Of the aligned face's pixels; equal for equal faces.
        thumb: float32 [THUMB_PX ** 2], grey, zero mean, unit length.
    """

    photo: Photo
    high_sha256: str
    thumb: NDArray[np.float32]


def process_photos(
    job: FaceJob, photos: Sequence[Photo], landmarks: Mapping[str, Points], *, num_workers: int
) -> Iterator[FaceDone | BadPhoto]:
    """Write the faces of all photos and yield a result for each, in their order.

    Worker processes are started afresh (spawn) and end with this process, however it ends.

    Args:
        job: What to do.
        photos: The photos.
        landmarks: Points by `Photo.file`, for `align="landmarks"`.
        num_workers: Processes; 0 works in this one.

    Raises:
        MachineError: disk full, or the detector is missing.
        WorkerError: a process was killed.
    """
    if num_workers == 0:
        work = PhotoWork(job, photos, landmarks)
        yield from (work[index] for index in range(len(work)))
        return
    chunks = [photos[start : start + CHUNK_PHOTOS] for start in range(0, len(photos), CHUNK_PHOTOS)]
    pool = ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(job,)
    )
    try:
        points = [[landmarks.get(photo.file) for photo in chunk] for chunk in chunks]
        for results in pool.map(_make_chunk, chunks, points):
            yield from results
    except BrokenProcessPool as error:
        raise WorkerError(
            "A worker process of prepare was killed, most often because memory ran out.",
            id="worker-died",
            where=job.source,
            hint="Run the same command again with fewer --workers; finished photos are kept.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class PhotoWork:
    """The photos as something to index: item i is its work done, so that `--workers auto` can time it.

    Args:
        job: What to do.
        photos: The photos.
        landmarks: Points by `Photo.file`.
    """

    def __init__(self, job: FaceJob, photos: Sequence[Photo], landmarks: Mapping[str, Points]) -> None:
        self._maker, self._photos, self._landmarks = _FaceMaker(job), photos, landmarks

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> FaceDone | BadPhoto:
        photo = self._photos[index]
        return self._maker.make(photo, self._landmarks.get(photo.file))


class _FaceMaker:
    """Makes the faces of one photo after another; a process keeps one, because a detector is slow to load.

    Raises:
        MachineError: the detector is missing.
    """

    def __init__(self, job: FaceJob) -> None:
        self._job = job
        self._detector: Any = None
        if job.align == "detect":
            from dsrface.data.detect import Detector

            self._detector = Detector()

    def make(self, photo: Photo, points: Points | None) -> FaceDone | BadPhoto:
        """Write the HR face and its VLR faces, unless an interrupted run has done so."""
        job = self._job
        targets = {job.staging / low_folder(item.size_px) / photo.name: item for item in job.degradations}
        target = job.staging / HIGH_FOLDER / photo.name
        try:
            if target.exists() and all(item.exists() for item in targets):
                return _done(photo, read_image(target))
            high = self._face(read_image(job.source / photo.file), points)
            for low_target, degradation in targets.items():
                stream = f"prepare-{degradation.size_px}"
                rng = draws.generator(degradation.seed, 0, draws.name_index(photo.name), stream)
                write_picture_bytes(low_target, encode_png(degrade(high, degradation, rng=rng)))
            write_picture_bytes(target, encode_png(high))
        except DataError as error:
            return BadPhoto(photo.file, error.id, error.message)
        return _done(photo, high)

    def _face(self, image: ImageU8, points: Points | None) -> ImageU8:
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE_PX:
            raise ImageError(f"The picture is only {width}x{height}: no face fits into it.", id="too-small")
        if points is None and (height, width) == (HIGH_SIZE_PX, HIGH_SIZE_PX):
            return image
        if self._detector is not None:
            points = self._detector.landmarks(image)
        if points is None:
            if self._job.align == "landmarks":
                raise ImageError("The landmarks file has no row for this photo.", id="no-landmarks")
            raise ImageError(
                f"The picture is {width}x{height}, not 112x112, and is not aligned.", id="wrong-size"
            )
        return align_face(image, points)


def _done(photo: Photo, high: ImageU8) -> FaceDone:
    small = Image.fromarray(high).convert("L").resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).reshape(-1)
    values = values - values.mean()
    thumb = values / max(float(np.linalg.norm(values)), 1e-6)
    return FaceDone(photo, hashlib.sha256(high.tobytes()).hexdigest(), thumb)


_maker: _FaceMaker | None = None  # of a worker process


def _start_worker(job: FaceJob) -> None:
    import signal

    global _maker  # noqa: PLW0603 - a pool's initializer has no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _maker = _FaceMaker(job)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_chunk(photos: Sequence[Photo], points: Sequence[Points | None]) -> list[FaceDone | BadPhoto]:
    assert _maker is not None
    return [_maker.make(photo, landmarks) for photo, landmarks in zip(photos, points, strict=True)]
