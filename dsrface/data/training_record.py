"""What a run was trained on: digests of images and persons, so that overlap can be looked for later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsrface.data.decode import ImageU8, read_image
from dsrface.data.layout import FaceSplit
from dsrface.errors import DsrfaceError
from dsrface.runtime.ahead import ahead
from dsrface.runtime.files import read_json, write_json

TRAINING_FILE = "trained_on.json"
_DIGEST_CHARS = 16
_MAX_PARENTS = 4  # from a checkpoint's file up to its run folder
_NUM_THREADS = 4  # decoding and hashing leave Python's lock
_LOOK_SIDE = 16
_LOOK_BYTES = _LOOK_SIDE**2 // 8
# Of 256 signs, how many may differ between two copies of a face. Copies that were compressed, resized or
# darkened differed in 14 (99 of 100), aligned faces of two persons in 24 or more (250,000 pairs).
_MOST_SIGNS = 16
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class TrainingRecord:
    """Digests of what was trained on.

    Args:
        images: Of the pixels of each face, the HR one where there is one.
        persons: Of each person's name.
        looks: uint8 [N, 32], as `look_of` has them; none in records of earlier versions.
    """

    images: frozenset[str]
    persons: frozenset[str]
    looks: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, _LOOK_BYTES), np.uint8))


def look_of(image: ImageU8) -> bytes:
    """Return 256 signs: whether it gets lighter to the right, on a grid; copies differ in few of them."""
    small = Image.fromarray(image).convert("L").resize((_LOOK_SIDE + 1, _LOOK_SIDE), Image.Resampling.BOX)
    values = np.asarray(small)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes()


def digest_images(split: FaceSplit) -> list[tuple[str, bytes]]:
    """Return the digest of each image's pixels and its look, in the order of the split.

    Raises:
        ImageError: an image cannot be read.
    """

    def digest(name: str) -> tuple[str, bytes]:
        image = read_image(split.face_path(name))
        pixels = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:_DIGEST_CHARS]
        return pixels, look_of(image)

    return list(ahead(digest, split.names, num_threads=_NUM_THREADS, depth=64))


def find_copies(looks: Sequence[bytes], record: TrainingRecord) -> NDArray[np.bool_]:
    """Return which looks are those of an image that was trained on, or of a copy of one."""
    own = _signs(_rows(b"".join(looks)))
    found = np.zeros(len(own), bool)
    for start in range(0, len(record.looks), _ROWS_AT_ONCE):
        # The product of two signs is 1 where they agree, else -1.
        alike = own @ _signs(record.looks[start : start + _ROWS_AT_ONCE]).T
        found |= (alike >= own.shape[1] - 2 * _MOST_SIGNS).any(axis=1)
    return found


def _rows(looks: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(looks, np.uint8).reshape(-1, _LOOK_BYTES)


def _signs(looks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the signs as -1 and 1, float32 [N, 256]."""
    return np.unpackbits(looks, axis=1).astype(np.float32) * 2 - 1


def digest_persons(persons: Iterable[str]) -> list[str]:
    """Return the digest of each name; names themselves do not belong in a run folder."""
    encoded = (name.encode("utf-8", "surrogateescape") for name in persons)
    return [hashlib.sha256(name).hexdigest()[:_DIGEST_CHARS] for name in encoded]


def write_training_record(folder: Path, split: FaceSplit) -> None:
    """Write the digests of a training split into a run folder, unless a resumed run has them already."""
    if not (folder / TRAINING_FILE).exists():
        digests = sorted(digest_images(split))
        content = {
            "schema_version": 1,
            "images": [pixels for pixels, _ in digests],
            "persons": sorted(digest_persons(split.persons)),
            "looks": [look.hex() for _, look in digests],
        }
        write_json(folder / TRAINING_FILE, content)


def find_training_record(weights: Path) -> TrainingRecord | None:
    """Return the record of the run that a weight file is in; None where there is none, or not a whole one."""
    for folder in list(weights.resolve().parents)[:_MAX_PARENTS]:
        if (folder / TRAINING_FILE).is_file():
            try:
                content = read_json(folder / TRAINING_FILE)
                looks = _rows(bytes.fromhex("".join(content.get("looks", []))))
                return TrainingRecord(frozenset(content["images"]), frozenset(content["persons"]), looks)
            except (DsrfaceError, KeyError, TypeError, ValueError, AttributeError):
                return None
    return None
