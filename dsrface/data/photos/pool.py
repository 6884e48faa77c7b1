"""Many photos to staged faces, by worker processes that end with this one; free of torch."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

from dsrface.data.formats.five_points import Points
from dsrface.data.photos.faces import FaceDone, FaceJob, FaceMaker
from dsrface.data.photos.scan import BadPhoto, Photo
from dsrface.errors import WorkerError

CHUNK_PHOTOS = 32  # photos handed to a worker process at once
_CHUNKS_AHEAD = 4  # a worker, handed over before they are asked for; more only fill the memory


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
    pool = ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(job,)
    )
    waiting: deque[Future[list[FaceDone | BadPhoto]]] = deque()
    try:
        for start in range(0, len(photos), CHUNK_PHOTOS):
            chunk = photos[start : start + CHUNK_PHOTOS]
            points = [landmarks.get(photo.file) for photo in chunk]
            waiting.append(pool.submit(_make_chunk, chunk, points))
            if len(waiting) > _CHUNKS_AHEAD * num_workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
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
        self._maker, self._photos, self._landmarks = FaceMaker(job), photos, landmarks

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> FaceDone | BadPhoto:
        photo = self._photos[index]
        return self._maker.make(photo, self._landmarks.get(photo.file))


_maker: FaceMaker | None = None  # of a worker process


def _start_worker(job: FaceJob) -> None:
    import signal

    global _maker  # noqa: PLW0603 - a pool's initializer has no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _maker = FaceMaker(job)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_chunk(photos: Sequence[Photo], points: Sequence[Points | None]) -> list[FaceDone | BadPhoto]:
    assert _maker is not None
    return [_maker.make(photo, landmarks) for photo, landmarks in zip(photos, points, strict=True)]
