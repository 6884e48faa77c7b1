"""A native data set of `prepare` as a benchmark: low-resolution faces against HR faces, or each other."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from dsrface.data.benchmarks.benchmark import Benchmark, Face, GallerySearch, PairTest
from dsrface.data.decode import walk_images
from dsrface.data.folders import HIGH_FOLDER, NATIVE_FILE, person_of
from dsrface.data.layout import FaceData, FaceSplit
from dsrface.data.pairs import Pairs, all_pairs
from dsrface.errors import DataError

_MAX_VALUES = 8  # of a condition that the searches are divided by
_OWN_COLUMNS = ("image", "split", "file", "native_px", "aligned")


def read_native(data: FaceData, split: FaceSplit, *, max_pairs: int, seed: int) -> Benchmark:
    """Return the faces of a native data set, with searches for each stored size and each condition.

    The HR faces are the gallery; without any, the first VLR face of each person who has several is.

    Args:
        data: The data set.
        split: Its split.
        max_pairs: Pairs at most, as in `all_pairs`.
        seed: Fixes which pairs are drawn.

    Raises:
        DataError: there is no one to search for.
    """
    faces, conditions = _faces(split, _conditions(data.root))
    is_low = np.array([face.is_low for face in faces])
    persons = np.unique([face.person for face in faces], return_inverse=True)[1]
    low, high = np.flatnonzero(is_low), np.flatnonzero(~is_low)
    notes: list[str] = []
    if len(high):
        gallery, probes = high, low
        notes.append(f"gallery: {len(high)} HR faces; probes: {len(low)} native faces")
    else:
        _, first, counts = np.unique(persons, return_index=True, return_counts=True)
        gallery = first[counts > 1]
        probes = np.setdiff1d(low, gallery)
        notes.append(f"there are no HR faces: {len(gallery)} native faces, one a person, are the gallery")
    if not len(probes) or not len(gallery):
        raise DataError(
            "There is no one to search for: a gallery needs HR faces, or persons with two native faces.",
            id="too-few-persons",
            where=split.root,
        )
    searches = [GallerySearch("all", gallery, probes, fpirs=(0.1,))]
    for name, values in conditions.items():
        kinds = sorted({values[probe] for probe in probes.tolist()})
        if 1 < len(kinds) <= _MAX_VALUES:
            searches += [
                GallerySearch(f"{name} {kind}", gallery, probes[[values[k] == kind for k in probes.tolist()]])
                for kind in kinds
            ]
    return Benchmark(
        "native", faces, tuple(searches), _tests(persons, low, high, max_pairs, seed), notes=tuple(notes)
    )


def _faces(
    split: FaceSplit, stored: dict[str, dict[str, str]]
) -> tuple[list[Face], dict[str, dict[int, str]]]:
    faces: list[Face] = []
    conditions: dict[str, dict[int, str]] = {"size": {}}
    folders = {HIGH_FOLDER: 0} | {folder: size for size, folder in sorted(split.low_folders.items())}
    for folder, size_px in folders.items():
        if not (split.root / folder).is_dir():
            continue
        for name in walk_images(split.root / folder):
            position = len(faces)
            faces.append(Face(name, split.root / folder / name, person_of(name), is_low=size_px > 0))
            conditions["size"][position] = f"{size_px:02d} px"
            for key, value in stored.get(name, {}).items():
                conditions.setdefault(key, {})[position] = value
    whole = {key: values for key, values in conditions.items() if len(values) == len(faces)}
    return faces, whole


def _conditions(root: Path) -> dict[str, dict[str, str]]:
    """Return the named groups of `prepare --persons` by image."""
    path = root / NATIVE_FILE
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as handle:
        return {
            row["image"]: {k: v for k, v in row.items() if k not in (*_OWN_COLUMNS, "size_px")}
            for row in csv.DictReader(handle)
        }


def _tests(
    persons: np.ndarray[tuple[int], np.dtype[np.int64]],
    low: np.ndarray[tuple[int], np.dtype[np.int64]],
    high: np.ndarray[tuple[int], np.dtype[np.int64]],
    max_pairs: int,
    seed: int,
) -> tuple[PairTest, ...]:
    tests = []
    if len(high) and len(low):
        first, second = np.repeat(high, len(low)), np.tile(low, len(high))
        is_same = persons[first] == persons[second]
        kept = np.flatnonzero(is_same)
        others = np.flatnonzero(~is_same)
        step = max(1, -(-len(others) // max_pairs))
        chosen = np.sort(np.concatenate([kept, others[::step]]))
        pairs = Pairs(first[chosen], second[chosen], is_same[chosen], "HR faces with native faces")
        tests.append(PairTest("HR-LR", pairs))
    if len(low) > 1:
        own = all_pairs(persons[low], max_pairs=max_pairs, seed=seed)
        tests.append(PairTest("LR-LR", Pairs(low[own.first], low[own.second], own.is_same, own.origin)))
    return tuple(tests)
