"""Where `prepare` takes the five landmarks of each photo from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsrface.config.prepare import PrepareConfig
from dsrface.data import detect
from dsrface.data.align import Points, read_landmarks
from dsrface.data.photo_scan import Photo, count_finished_faces
from dsrface.errors import DataError
from dsrface.runtime.files import sha256_file
from dsrface.runtime.versions import how_to_install


@dataclass(frozen=True)
class Alignment:
    """How the faces are aligned.

    Args:
        kind: `none`, `landmarks` or `detect`.
        reason: Why, for people.
        landmarks: Points by file, for `landmarks`.
        sha256: Of the landmarks file.
    """

    kind: str
    reason: str
    landmarks: dict[str, Points] = field(default_factory=dict)
    sha256: str = ""


def choose_alignment(config: PrepareConfig, photos: Sequence[Photo]) -> Alignment:
    """Decide where the landmarks come from.

    Raises:
        DataError: an unreadable landmarks file, or no way to align the photos.
    """
    if config.align not in {"auto", "none"}:
        path = Path(config.align)
        return Alignment("landmarks", f"landmarks of {path.name}", read_landmarks(path), sha256_file(path))
    if config.align == "none":
        return Alignment("none", "none: the faces are taken as they are, 112x112")
    found = config.source / "landmarks.csv"
    if found.is_file():
        return Alignment(
            "landmarks", "auto: landmarks.csv is in the source", read_landmarks(found), sha256_file(found)
        )
    finished, readable = count_finished_faces(config.source, photos)
    if 2 * finished >= readable:
        return Alignment("none", f"auto: {finished} of {readable} readable photos are 112x112 already")
    if detect.is_available():
        return Alignment(
            "detect", f"auto: only {finished} of {readable} photos are 112x112, and a detector is here"
        )
    raise DataError(
        f"The photos must be aligned: only {finished} of {readable} are 112x112, and there are no landmarks.",
        id="cannot-align",
        where=config.source,
        hint="Three ways out: (1) --align FILE.csv with five points a photo "
        "(file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry); (2) a detector that finds the points: "
        f"{how_to_install('detect')}; (3) align the faces to 112x112 yourself.",
    )
