"""The file of enrolled people: an embedding and a face of each, and the networks that they were made with."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dsrface.errors import RunError, WeightsError
from dsrface.models.sources import is_name
from dsrface.runtime.files import atomic_writer, remove_half_written

T = TypeVar("T")

_SCHEMA = 1
_COLUMNS = ("schema", "persons", "counts", "embeddings", "faces", "origin")
_FACE = (112, 112, 3)
_MAKE_IT = "Make one of photos of known people: dsrface enrol KNOWN --weights RECOGNISER --out people.npz"


@dataclass(frozen=True)
class Origin:
    """How a gallery was made, and how it is to be asked.

    Args:
        weights: Recogniser, its path from the gallery's folder or its name.
        weights_sha256: Of its file.
        dsr: Super-resolution network, likewise; empty without one.
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


def check_gallery(path: Path) -> None:
    """Make sure that a file is a gallery, and that the networks which made it are there.

    Raises:
        RunError: missing (`file-missing`) or no such file (`file-damaged`).
        WeightsError: a network is not where it was (`weights-missing`).
    """
    origin = _read(path, ["origin"], _origin)
    for stored in filter(None, (origin.weights, origin.dsr)):
        network = located(stored, path)
        if not is_name(network) and not os.path.exists(network):
            raise WeightsError(
                f"A network that {path.name} was made with is not there.",
                id="weights-missing",
                where=network,
                hint="Put it back, or enrol with another one: embeddings of two cannot be compared. "
                + _MAKE_IT,
            )


def stored_place(network: Path, gallery: Path) -> str:
    """Return what a gallery keeps of a network: its path from the gallery's folder, or a name as it is."""
    if is_name(network):
        return str(network)
    try:
        return os.path.relpath(network.resolve(), gallery.parent.resolve())
    except ValueError:  # another drive of Windows
        return str(network.resolve())


def located(stored: str, gallery: Path) -> Path:
    """Return where a network is that `stored_place` wrote down; earlier galleries have it as it was named."""
    from_gallery = gallery.parent / stored
    return from_gallery if os.path.exists(from_gallery) else Path(stored)  # False for what can be no path


def read_gallery(path: Path) -> Gallery:
    """Return what `write_gallery` wrote.

    Raises:
        RunError: missing (`file-missing`), or not to be read (`file-damaged`).
    """
    return _read(path, _COLUMNS, _gallery)


def _read(path: Path, names: Sequence[str], build: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what is built of the columns of a gallery, of which nothing is trusted."""
    if not path.is_file():
        message = "This is a folder, not a gallery." if path.is_dir() else "There is no such gallery."
        raise RunError(message, id="file-missing", where=path, hint=_MAKE_IT)
    if not zipfile.is_zipfile(path):
        raise _damaged(path, "galleries are .npz files")
    try:
        _check_archive(path)
        with np.load(path, allow_pickle=False) as stored:
            return build({name: stored[name] for name in names})
    except (OSError, ValueError, TypeError, LookupError, NotImplementedError, EOFError) as error:
        raise _damaged(path, str(error)) from None
    except (zipfile.BadZipFile, zlib.error, MemoryError, RecursionError, SyntaxError) as error:
        raise _damaged(path, str(error) or "it claims more than there is room for") from None


def _check_archive(path: Path) -> None:
    """Raise ValueError for an archive that lacks a column or would unpack to more than it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    missing = {f"{name}.npy" for name in _COLUMNS}.difference(entry.filename for entry in entries)
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("it is compressed, which none is")


def _damaged(path: Path, problem: str) -> RunError:
    return RunError(f"This is no gallery: {problem}.", id="file-damaged", where=path, hint=_MAKE_IT)


def _origin(values: Mapping[str, Any]) -> Origin:
    """Raise ValueError or TypeError unless the values are what `write_gallery` writes."""
    origin = Origin(**json.loads(str(values["origin"])))
    texts = (origin.weights, origin.weights_sha256, origin.dsr, origin.dsr_sha256, origin.threshold_text)
    numbers = (origin.threshold, 0.0 if origin.far is None else origin.far)
    if not all(isinstance(text, str) for text in texts) or not all(map(_is_finite, numbers)):
        raise ValueError("its origin is damaged")
    return origin


def _is_finite(number: Any) -> bool:
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    return is_number and math.isfinite(number)


def _gallery(values: Mapping[str, Any]) -> Gallery:
    """Raise ValueError or TypeError unless the values are what `write_gallery` writes."""
    if values["schema"].shape != () or int(values["schema"]) != _SCHEMA:
        raise ValueError("it has another schema")
    persons, counts, embeddings, faces = (values[name] for name in _COLUMNS[1:5])
    kinds = [column.dtype.kind for column in (persons, counts, embeddings, faces)]
    if kinds != ["U", "i", "f", "u"] or embeddings.ndim != 2 or faces.shape[1:] != _FACE:
        raise ValueError("its columns are of other types")
    if not len(persons) or {len(counts), len(embeddings), len(faces)} != {len(persons)}:
        raise ValueError("its columns are of different lengths")
    if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
        raise ValueError("its embeddings are not of length 1")
    return Gallery(tuple(map(str, persons)), counts, embeddings, faces, _origin(values))
