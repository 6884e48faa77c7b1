"""Where `prepare` takes the five landmarks of each photo from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsrface.config.prepare import PrepareConfig
from dsrface.data.formats.five_points import Points, are_relative, join_axes, turn_round
from dsrface.data.formats.landmarks import read_landmarks
from dsrface.data.formats.lists import FileTable
from dsrface.data.photos import detect
from dsrface.data.photos.scan import Photo, photo_sizes
from dsrface.errors import DataError
from dsrface.runtime.command_line import joined
from dsrface.runtime.files import sha256_file, sha256_json
from dsrface.runtime.versions import how_to_install

LANDMARKS_FILE = "landmarks.csv"  # is used without being asked for


@dataclass(frozen=True)
class Alignment:
    """How the faces are aligned.

    Args:
        kind: `none`, `resize`, `landmarks` or `detect`.
        reason: Why, human-readable.
        landmarks: [n, 5, 2] of the faces by file, for `landmarks`.
        is_relative: They are shares of the photo's width and height.
        sha256: Of the landmarks file; of a folder of them, of the points.
        doubt: What may be wrong with it, human-readable.
    """

    kind: str
    reason: str
    landmarks: dict[str, Points] = field(default_factory=dict)
    is_relative: bool = False
    sha256: str = ""
    doubt: str = ""


def choose_alignment(config: PrepareConfig, photos: Sequence[Photo]) -> Alignment:
    """Decide where the landmarks come from.

    Raises:
        DataError: an unreadable landmarks file, or no way to align the photos.
    """
    size = f"{config.high_size}x{config.high_size}"
    if config.align == "none":
        kept = "as they are" if config.native else f"as they are, {size}"
        return Alignment("none", f"none: the faces are taken {kept}")
    if config.align == "resize":
        return Alignment("resize", f"resize: aligned squares are reduced to {size}")
    if config.align != "auto":
        return _from_file(Path(config.align), photos, f"landmarks of {Path(config.align).name}")
    found = config.source / LANDMARKS_FILE
    if found.is_file():
        return _from_file(found, photos, f"auto: {LANDMARKS_FILE} is in the source")
    if config.native:
        if detect.is_available():
            return Alignment(
                "detect", "auto: by the detector; faces that it does not find are taken as they are"
            )
        return Alignment("none", "auto: no detector is here, so the faces are taken as they are")
    sizes = photo_sizes(config.source, photos)
    finished, readable = sizes.count((config.high_size, config.high_size)), len(sizes)
    if 2 * finished >= readable:
        return Alignment("none", f"auto: {finished} of {readable} readable photos are {size} already")
    if detect.is_available():
        return Alignment(
            "detect", f"auto: only {finished} of {readable} photos are {size}, and a detector is here"
        )
    raise DataError(
        f"The photos must be aligned: only {finished} of {readable} are {size}, and there are no landmarks.",
        id="cannot-align",
        where=config.source,
        hint=likely_way(config, sizes) + "Four ways out: (1) --align FILE with five points a photo "
        "(file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry); (2) a detector that finds the points: "
        f"{how_to_install('detect')}; (3) --align resize, when they are aligned squares larger than {size}; "
        "(4) --native, when they are low-resolution faces.",
    )


def likely_way(config: PrepareConfig, sizes: Sequence[tuple[int, int]]) -> str:
    """Return the command that nine in ten of the photos' sizes ask for; empty where they say nothing."""
    high_px = config.high_size
    ways = {
        "--native": (f"smaller than {high_px} px", sum(max(size) < high_px for size in sizes)),
        "--align resize": (
            f"squares larger than {high_px} px; if they are aligned",
            sum(size[0] == size[1] > high_px for size in sizes),
        ),
    }
    for option, (what, count) in ways.items():
        if sizes and 10 * count >= 9 * len(sizes):
            again = joined(["dsrface", "prepare", str(config.source), str(config.data), *option.split()])
            return f"{count} of {len(sizes)} are {what}: {again}\n"
    return ""


def _from_file(path: Path, photos: Sequence[Photo], reason: str) -> Alignment:
    """Return the landmarks by photo; a file may name photos by a path of its own, as CelebA's does."""
    read = read_landmarks(path)
    doubts = []
    if (joined_axes := join_axes(read)) is not None:
        read = joined_axes
        doubts.append(f"{path.name} has all x of a face before all y; they were read so")
    if (turned := turn_round(read)) is not None:
        read = turned
        doubts.append(f"{path.name} has left and right as the person has them; they were turned round")
    table = FileTable({file: file for file in read})
    found = table.of(photo.file for photo in photos)
    if not found:
        raise DataError(
            f"The landmarks file names none of the {len(photos)} photos: it has e.g. {table.example!r}, the "
            f"source {photos[0].file!r}.",
            id="bad-landmarks",
            where=path,
            hint="Write the files as they are called below the source, or by the last parts of their paths.",
        )
    landmarks = {file: read[key] for file, key in found.items()}
    sha256 = (
        sha256_file(path)
        if path.is_file()
        else sha256_json({file: points.tolist() for file, points in landmarks.items()})
    )
    return Alignment("landmarks", reason, landmarks, are_relative(read), sha256, "; ".join(doubts))
