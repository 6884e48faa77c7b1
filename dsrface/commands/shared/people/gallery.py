"""The file of enrolled people: an embedding and a face of each, and the networks that they were made with."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrface.errors import RunError
from dsrface.runtime.files import atomic_writer, remove_half_written

_SCHEMA = 1


@dataclass(frozen=True)
class Origin:
    """How a gallery was made, and how it is to be asked.

    Args:
        weights: Recogniser, as it was named.
        weights_sha256: Of its file.
        dsr: Super-resolution network, as it was named; empty without one.
        dsr_sha256: Of its file; empty without one.
        threshold: Cosine from which on a match counts.
        far: Share of strangers that it accepts from one person; None when unknown.
        threshold_text: Where it comes from, in words.
    """

    weights: str
    weights_sha256: str
    dsr: str
    dsr_sha256: str
    threshold: float
    far: float | None
    threshold_text: str


@dataclass(frozen=True)
class Gallery:
    """Enrolled people.

    Args:
        persons: Names, ascending.
        counts: int64 [P], photos of each.
        embeddings: float32 [P, D], rows of length 1: the mean of each person's photos.
        faces: uint8 [P, 112, 112, 3], the photo nearest to that mean.
        origin: How it was made.
    """

    persons: tuple[str, ...]
    counts: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    faces: NDArray[np.uint8]
    origin: Origin


def gather_people(
    persons: list[str], embeddings: NDArray[np.float32], images: NDArray[np.uint8], origin: Origin
) -> Gallery:
    """Return one row a person.

    Args:
        persons: Whose each photo is.
        embeddings: [N, D], rows of length 1.
        images: uint8 [N, 112, 112, 3].
        origin: How they were made.
    """
    names = sorted(set(persons))
    whose = np.array([names.index(person) for person in persons])
    means = np.zeros((len(names), embeddings.shape[1]), np.float32)
    chosen = np.zeros(len(names), np.int64)
    for number in range(len(names)):
        rows = np.flatnonzero(whose == number)
        mean = embeddings[rows].mean(axis=0)
        means[number] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        chosen[number] = rows[int(np.argmax(embeddings[rows] @ means[number]))]
    return Gallery(tuple(names), np.bincount(whose), means, images[chosen], origin)


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write a file that `np.load` opens without pickle."""
    remove_half_written(path.parent, path.name)
    with atomic_writer(path) as handle:
        np.savez(
            handle,
            schema=np.int64(_SCHEMA),
            persons=np.array(gallery.persons, np.str_),
            counts=gallery.counts,
            embeddings=gallery.embeddings,
            faces=gallery.faces,
            origin=np.array(json.dumps(asdict(gallery.origin), sort_keys=True), np.str_),
        )


def read_gallery(path: Path) -> Gallery:
    """Return what `write_gallery` wrote.

    Raises:
        RunError: missing (`file-missing`) or no such file (`file-damaged`).
    """
    if not path.is_file():
        raise RunError(
            "There is no such gallery.", id="file-missing", where=path, hint="dsrface enrol PHOTOS --out FILE"
        )
    if not zipfile.is_zipfile(path):
        raise RunError(
            "This is no gallery: galleries are .npz files.",
            id="file-damaged",
            where=path,
            hint="dsrface enrol PHOTOS --out FILE",
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            return _gallery({name: stored[name] for name in stored.files})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(
            f"The gallery cannot be read: {error}.",
            id="file-damaged",
            where=path,
            hint="Make it again with dsrface enrol.",
        ) from None


def _gallery(values: Mapping[str, Any]) -> Gallery:
    if int(values["schema"]) != _SCHEMA:
        raise ValueError(f"it has schema {int(values['schema'])}")
    persons = tuple(str(name) for name in values["persons"])
    counts, embeddings, faces = (values[name] for name in ("counts", "embeddings", "faces"))
    if not persons or any(len(column) != len(persons) for column in (counts, embeddings, faces)):
        raise ValueError("its columns are of different lengths")
    return Gallery(persons, counts, embeddings, faces, Origin(**json.loads(str(values["origin"]))))
