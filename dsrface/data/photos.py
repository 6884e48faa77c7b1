"""From a folder of photos to staged 112x112 and LR faces, one photo at a time; free of torch, for worker
processes.

A photo's result depends on the photo, its name and the settings alone, so any number of processes writes the
same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsrface.data import draws
from dsrface.data.align import Points, align_face
from dsrface.data.decode import (
    IMAGE_SUFFIXES,
    ImageU8,
    encode_png,
    image_size,
    read_image,
    walk_images,
    write_picture_bytes,
)
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.splits import doubts_of_flat_names
from dsrface.errors import DataError, ImageError, WorkerError
from dsrface.types import HIGH_SIZE_PX

MIN_SIDE_PX = 16
THUMB_PX = 24
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
CHUNK_PHOTOS = 32  # photos handed to a worker process at once
_DATA_FOLDER = re.compile(r"(hr_images|(vlr_images|dsr_outputs)(_\d+x\d+)?)$")
_NAMING = "Put them in one folder per person, or name them <person>_<rest>.png."


@dataclass(frozen=True)
class Photo:
    """One photo of the source.

    Args:
        file: Relative to the source, with `/`.
        person: Name of the person, safe as a folder name everywhere.
        name: `<person>/<image>.png`, the name in the data set.
    """

    file: str
    person: str
    name: str


@dataclass(frozen=True)
class BadPhoto:
    """A photo that was left out, with the reason (an error id) and a sentence for people."""

    file: str
    reason: str
    message: str


@dataclass(frozen=True)
class FaceJob:
    """What is done to every photo.

    Args:
        source: Folder of the photos.
        staging: Folder that gets `hr_images/` and `vlr_images_SxS/`.
        degradations: One for each LR size.
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


@dataclass(frozen=True)
class Scan:
    """What a source folder holds.

    Args:
        photos: Sorted by file.
        strays: Photos whose person cannot be told.
        rule: How the persons were told, for people.
        doubts: What may be wrong with that, for people.
        merged: Persons whose photos lie in folders of one name in several places.
    """

    photos: list[Photo]
    strays: list[BadPhoto]
    rule: str
    doubts: list[str]
    merged: list[str]


def scan_photos(source: Path) -> Scan:
    """Find the photos and whose they are.

    With folders, the person is the name of the folder at the level where most photos lie, so that the folders
    which archives put around their persons do not matter; without, the text before the first underscore of
    `<person>_<rest>.png`.

    Raises:
        DataError: the source is not a folder, holds no photo or a data set, or tells no person.
    """
    if not source.is_dir():
        raise DataError(
            "The source is not a folder." if source.exists() else "The source folder does not exist.",
            id="no-source",
            where=source,
        )
    files = list(walk_images(source))
    if not files:
        raise DataError(
            "There is no photo in the source folder.",
            id="no-photos",
            where=source,
            hint=f"Photos are files named {', '.join(sorted(IMAGE_SUFFIXES))}, not hidden. {_NAMING}",
        )
    _refuse_data_set(source, files)
    # The level of most photos; of two as common, the upper one.
    levels = Counter(file.count("/") for file in files if "/" in file)
    level = min(levels, key=lambda item: (-levels[item], item)) if levels else 0
    photos, strays = [], []
    persons = _Unique()
    places: dict[str, set[str]] = {}
    pending: list[tuple[str, str, str]] = []
    for file in files:
        place, raw, rest = _parts(file, level)
        if not raw:
            home = f"is in no person's folder (persons are the folders of level {level})"
            what = home if level else "has no underscore in its name"
            strays.append(BadPhoto(file, "no-person", f"The photo {what}: nobody can say whose it is."))
            continue
        person = persons.name(raw)
        places.setdefault(person, set()).add(place)
        pending.append((file, person, _safe(os.path.splitext(rest)[0])))
    if not pending:
        raise DataError(
            f"Nobody can say whose the {len(files)} photos are, e.g. {files[0]!r}.",
            id="no-person",
            where=source,
            hint=_NAMING,
        )
    names = Counter(f"{person}/{stem}".casefold() for _, person, stem in pending)
    used: set[str] = set()
    for file, person, stem in pending:
        # a.jpg beside a.png, or A.jpg where upper and lower case are one: the suffix goes into the name.
        is_alone = names[f"{person}/{stem}".casefold()] == 1
        own = base = stem if is_alone else f"{stem}_{_safe(file.rpartition('.')[2])}"
        number = 2
        while f"{person}/{own}".casefold() in used:
            own, number = f"{base}_{number}", number + 1
        used.add(f"{person}/{own}".casefold())
        photos.append(Photo(file, person, f"{person}/{own}.png"))
    rule = f"folders of level {level}" if level else "the name up to the first underscore"
    example = f"e.g. {photos[0].file!r} is of {photos[0].person!r}"
    merged = sorted(person for person, found in places.items() if len(found) > 1)
    doubts = doubts_of_flat_names(files) if level == 0 else []
    return Scan(photos, strays, f"persons: {rule}, {example}", doubts, merged)


def count_finished_faces(source: Path, photos: Sequence[Photo]) -> tuple[int, int]:
    """Return how many photos are 112x112 by their headers, and how many are readable at all."""
    finished = readable = 0
    for photo in photos:
        try:
            size = image_size(source / photo.file)
        except ImageError:
            continue
        readable += 1
        finished += size == (HIGH_SIZE_PX, HIGH_SIZE_PX)
    return finished, readable


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
        detector = _make_detector(job)
        for photo in photos:
            yield _process(job, photo, landmarks.get(photo.file), detector)
        return
    chunks = [photos[start : start + CHUNK_PHOTOS] for start in range(0, len(photos), CHUNK_PHOTOS)]
    pool = ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(job,)
    )
    try:
        points = [[landmarks.get(photo.file) for photo in chunk] for chunk in chunks]
        for results in pool.map(_process_chunk, chunks, points):
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
        self._job, self._photos, self._landmarks = job, photos, landmarks
        self._detector = _make_detector(job)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> FaceDone | BadPhoto:
        photo = self._photos[index]
        return _process(self._job, photo, self._landmarks.get(photo.file), self._detector)


def alike_persons(photos: Sequence[Photo]) -> list[list[str]]:
    """Return groups of person names that differ only in case, spaces or punctuation."""
    groups: dict[str, set[str]] = {}
    for photo in photos:
        plain = re.sub(r"~\d+$", "", unicodedata.normalize("NFKC", photo.person))
        key = re.sub(r"[\s_.\-]+", "", plain).casefold()
        groups.setdefault(key, set()).add(photo.person)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


def _parts(file: str, level: int) -> tuple[str, str, str]:
    """Return the place of the person's folder, the person (empty when untold) and the rest."""
    *folders, name = file.split("/")
    if level == 0:
        person, underscore, _ = name.partition("_")
        return "", person if underscore else "", name
    if len(folders) < level:
        return "", "", ""
    return "/".join(folders[: level - 1]), folders[level - 1], "_".join([*folders[level:], name])


def _refuse_data_set(source: Path, files: Sequence[str]) -> None:
    """Its folders would pass for persons, and its LR faces for photos."""
    for file in files:
        for folder in PurePosixPath(file).parents:
            if _DATA_FOLDER.match(folder.name):
                raise DataError(
                    f"This is a data set already, not photos: there is {str(folder)!r}.",
                    id="source-is-data-set",
                    where=source,
                    hint="Use it as it is, e.g. with `dsrface train-dsr`; or name an hr_images folder of it "
                    "as SOURCE.",
                )


class _Unique:
    """Safe folder names that never merge two persons."""

    def __init__(self) -> None:
        self._by_raw: dict[str, str] = {}
        self._taken: set[str] = set()

    def name(self, raw: str) -> str:
        if raw not in self._by_raw:
            base = safe = _safe(raw)
            number = 2
            while safe.casefold() in self._taken:
                safe, number = f"{base}~{number}", number + 1
            self._taken.add(safe.casefold())
            self._by_raw[raw] = safe
        return self._by_raw[raw]


def _safe(text: str) -> str:
    """Return a file name that every system can hold: no control characters, no outer blanks or dots."""
    return _UNSAFE.sub("_", text).strip(" .") or "_"


_worker_job: FaceJob | None = None
_worker_detector: Any = None


def _start_worker(job: FaceJob) -> None:
    import signal

    global _worker_job, _worker_detector  # a pool's initializer has no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _worker_job, _worker_detector = job, _make_detector(job)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process_chunk(photos: Sequence[Photo], points: Sequence[Points | None]) -> list[FaceDone | BadPhoto]:
    assert _worker_job is not None
    pairs = zip(photos, points, strict=True)
    return [_process(_worker_job, photo, landmarks, _worker_detector) for photo, landmarks in pairs]


def _make_detector(job: FaceJob) -> Any:
    if job.align != "detect":
        return None
    from dsrface.data.detect import Detector

    return Detector()


def _process(job: FaceJob, photo: Photo, points: Points | None, detector: Any) -> FaceDone | BadPhoto:
    path = job.source / photo.file
    try:
        folders = {f"vlr_images_{item.size_px}x{item.size_px}": item for item in job.degradations}
        targets = [job.staging / folder / photo.name for folder in folders]
        target = job.staging / "hr_images" / photo.name
        if target.exists() and all(item.exists() for item in targets):
            return _done(photo, read_image(target))  # finished before an interruption
        high = _face(job, read_image(path), points, detector)
        for low_target, degradation in zip(targets, folders.values(), strict=True):
            stream = f"prepare-{degradation.size_px}"
            rng = draws.generator(degradation.seed, 0, draws.name_index(photo.name), stream)
            write_picture_bytes(low_target, encode_png(degrade(high, degradation, rng=rng)))
        write_picture_bytes(target, encode_png(high))
    except DataError as error:
        return BadPhoto(photo.file, error.id, error.message)
    return _done(photo, high)


def _face(job: FaceJob, image: ImageU8, points: Points | None, detector: Any) -> ImageU8:
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise ImageError(f"The picture is only {width}x{height}: no face fits into it.", id="too-small")
    if points is None and (height, width) == (HIGH_SIZE_PX, HIGH_SIZE_PX):
        return image
    if job.align == "detect":
        points = detector.landmarks(image)
    if points is None:
        if job.align == "landmarks":
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
