"""What a run was trained on: digests of images and persons, so that overlap can be looked for later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dsrface.data.decode import read_image
from dsrface.data.layout import FaceSplit
from dsrface.errors import DsrfaceError
from dsrface.runtime.files import read_json, write_json

TRAINING_FILE = "trained_on.json"
_DIGEST_CHARS = 16
_MAX_PARENTS = 4  # from a checkpoint's file up to its run folder
_NUM_THREADS = 4  # decoding and hashing leave Python's lock


@dataclass(frozen=True)
class TrainingRecord:
    """Digests of what was trained on.

    Args:
        images: Of the pixels of each face, the HR one where there is one.
        persons: Of each person's name.
    """

    images: frozenset[str]
    persons: frozenset[str]


def digest_images(split: FaceSplit) -> list[str]:
    """Return the digest of each image's pixels, in the order of the split; equal faces have equal ones.

    Raises:
        ImageError: an image cannot be read.
    """

    def digest(name: str) -> str:
        image = read_image(split.face_path(name))
        return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:_DIGEST_CHARS]

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(digest, split.names))


def digest_persons(persons: Iterable[str]) -> list[str]:
    """Return the digest of each name; names themselves do not belong in a run folder."""
    encoded = (name.encode("utf-8", "surrogateescape") for name in persons)
    return [hashlib.sha256(name).hexdigest()[:_DIGEST_CHARS] for name in encoded]


def write_training_record(folder: Path, split: FaceSplit) -> None:
    """Write the digests of a training split into a run folder, unless a resumed run has them already."""
    if not (folder / TRAINING_FILE).exists():
        images, persons = sorted(digest_images(split)), sorted(digest_persons(split.persons))
        write_json(folder / TRAINING_FILE, {"schema_version": 1, "images": images, "persons": persons})


def find_training_record(weights: Path) -> TrainingRecord | None:
    """Return the record of the run that a weight file is in; None where there is none, or not a whole one."""
    for folder in list(weights.resolve().parents)[:_MAX_PARENTS]:
        if (folder / TRAINING_FILE).is_file():
            try:
                content = read_json(folder / TRAINING_FILE)
                return TrainingRecord(frozenset(content["images"]), frozenset(content["persons"]))
            except (DsrfaceError, KeyError, TypeError):
                return None
    return None
