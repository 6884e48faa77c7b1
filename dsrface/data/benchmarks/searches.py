"""TinyFace, SCface and QMUL-SurvFace: native low-resolution probes in a gallery."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsrface.data.benchmarks.archive import parts_below
from dsrface.data.benchmarks.benchmark import Benchmark, Face, GallerySearch, PairTest
from dsrface.data.decode import walk_images
from dsrface.data.formats.matlab import read_mat
from dsrface.data.pairs import Pairs
from dsrface.errors import DataError

_MAX_GENERATED_IMPOSTORS = 100_000
_SCFACE_NAME = re.compile(r"(?P<person>\d+)_cam(?P<camera>\d+)_(?P<distance>\d)")
_SCFACE_MUGSHOT = re.compile(r"(?P<person>\d+)_frontal")
_SCFACE_METRES = {"1": "4.2 m", "2": "2.6 m", "3": "1.0 m"}


def read_tinyface(root: Path) -> Benchmark:
    """Read TinyFace's identification test: probes against matches and distractors, all of them native.

    Source:
        Cheng, Zhu, Gong 2018, Low-Resolution Face Recognition; `Testing_Set` of its archive.
    """
    test = _testing_set(root)
    match = _listed_faces(test / "Gallery_Match", test / "gallery_match_img_ID_pairs.mat", "gallery")
    probes = _listed_faces(test / "Probe", test / "probe_img_ID_pairs.mat", "probe")
    folder = _folder(test / "Gallery_Distractor")
    distractors = [
        Face(name, folder / name, f"distractor {name}", is_low=True) for name in walk_images(folder)
    ]
    gallery = [*match, *distractors]
    places = np.arange(len(gallery) + len(probes))
    search = GallerySearch("", places[: len(gallery)], places[len(gallery) :])
    note = f"gallery: {len(match)} matches and {len(distractors)} distractors; {len(probes)} probes"
    return Benchmark("tinyface", [*gallery, *probes], (search,), notes=(note,))


def read_scface(root: Path) -> Benchmark:
    """Read SCface: surveillance cameras at three distances against mugshots.

    Source:
        Grgic, Delac, Grgic 2011, SCface - surveillance cameras face database.
    """
    faces: list[Face] = []
    by_distance: dict[str, list[int]] = {}
    mugshots: list[Face] = []
    for name in walk_images(root):
        stem = Path(name).stem
        probe, mugshot = _SCFACE_NAME.fullmatch(stem), _SCFACE_MUGSHOT.fullmatch(stem)
        if probe is not None:
            by_distance.setdefault(probe["distance"], []).append(len(faces))
            faces.append(Face(name, root / name, probe["person"], is_low=True))
        elif mugshot is not None:
            mugshots.append(Face(name, root / name, mugshot["person"], is_low=False))
    if not mugshots or not by_distance:
        raise _other_layout(root, "mugshots NNN_frontal.jpg and probes NNN_camC_D.jpg")
    # The archive has the same mugshots whole as well; those that show the face alone are enrolled.
    cropped = [face for face in mugshots if "cropped" in face.name] or mugshots
    enrolled = np.arange(len(faces), len(faces) + len(cropped))
    faces += cropped
    searches = [
        GallerySearch(f"distance {key} ({_SCFACE_METRES.get(key, '?')})", enrolled, np.array(probes))
        for key, probes in sorted(by_distance.items())
    ]
    everything = np.array(sorted(itertools.chain.from_iterable(by_distance.values())))
    searches.append(GallerySearch("all distances", enrolled, everything))
    note = "all persons and cameras that are there; published figures leave out those that were trained on"
    return Benchmark("scface", faces, tuple(searches), notes=(note,))


def read_survface(root: Path) -> Benchmark:
    """Read QMUL-SurvFace: open-set identification and verification of surveillance faces.

    Source:
        Cheng, Zhu, Gong 2018, Surveillance Face Recognition Challenge.
    """
    faces: list[Face] = []
    searches: list[GallerySearch] = []
    identification = next(iter(parts_below(root, "Face_Identification_Test_Set")), None)
    if identification is not None:
        parts = {}
        for part in ("gallery", "mated_probe", "unmated_probe"):
            found = _listed_faces(identification / part, identification / f"{part}_img_ID_pairs.mat", part)
            if part == "unmated_probe":
                found = [
                    Face(face.name, face.source, f"unknown {face.person}", is_low=True) for face in found
                ]
            parts[part] = np.arange(len(faces), len(faces) + len(found))
            faces += found
        probes = np.concatenate([parts["mated_probe"], parts["unmated_probe"]])
        fpirs = (0.3, 0.2, 0.1, 0.01)
        searches.append(GallerySearch("", parts["gallery"], probes, fpirs=fpirs, open_set_rank=20))
    verification = next(iter(parts_below(root, "Face_Verification_Test_Set")), None)
    tests: tuple[PairTest, ...] = ()
    notes: tuple[str, ...] = ()
    if verification is not None:
        offset = len(faces)
        found, pairs, notes = _survface_pairs(verification)
        faces += found
        tests = (PairTest("LR-LR", _shifted(pairs, offset)),)
    if not faces:
        raise _other_layout(root, "Face_Identification_Test_Set or Face_Verification_Test_Set")
    return Benchmark("survface", faces, tuple(searches), tests, fars=(0.3, 0.1, 0.01, 0.001), notes=notes)


def _survface_pairs(folder: Path) -> tuple[list[Face], Pairs, tuple[str, ...]]:
    images = _folder(folder / "verification_images")
    names = list(walk_images(images))
    faces = [Face(name, images / name, _person_of(name), is_low=True) for name in names]
    place = {name: number for number, name in enumerate(names)}
    rows: list[tuple[int, int, bool]] = []
    notes: tuple[str, ...] = ()
    for kind, is_same in (("positive", True), ("negative", False)):
        path = folder / f"{kind}_pairs_names.mat"
        if path.is_file():
            table = next(iter(read_mat(path).values()))
            rows += [
                (_place(place, first, path), _place(place, second, path), is_same) for first, second in table
            ]
    if not any(not is_same for _, _, is_same in rows):
        impostors = [
            (first, second, False)
            for first, second in itertools.combinations(range(len(faces)), 2)
            if faces[first].person != faces[second].person
        ]
        rows += impostors[:: max(1, len(impostors) // _MAX_GENERATED_IMPOSTORS)]
        notes = ("there is no negative_pairs_names.mat: impostor pairs are made of images of different ids",)
    table_of = np.array(rows, np.int64).reshape(-1, 3)
    pairs = Pairs(table_of[:, 0], table_of[:, 1], table_of[:, 2].astype(bool), "the lists of QMUL-SurvFace")
    return faces, pairs, notes


def _shifted(pairs: Pairs, offset: int) -> Pairs:
    return Pairs(pairs.first + offset, pairs.second + offset, pairs.is_same, pairs.origin)


def _place(place: dict[str, int], name: str, path: Path) -> int:
    if name not in place:
        raise DataError(f"The list names {name!r}, which is not there.", id="bad-list-file", where=path)
    return place[name]


def _listed_faces(folder: Path, listing: Path, part: str) -> list[Face]:
    """Return the faces of a folder with the ids of a list, or of their names where there is no list."""
    _folder(folder)
    present = list(walk_images(folder))
    if not listing.is_file():
        return [Face(name, folder / name, _person_of(name), is_low=True) for name in present]
    tables = read_mat(listing)
    names, ids = _column(tables, "set"), _column(tables, "ids")
    if names is not None and ids is None and part == "unmated_probe":  # whose they are does not matter
        ids = [_person_of(name) for name in names]
    if names is None or ids is None or len(names) != len(ids):
        raise DataError(
            f"The list of the {part} holds no names and ids.",
            id="bad-list-file",
            where=listing,
            hint="Its tables end with _set and _ids. Without the list, the id is the text before the first "
            "underscore of a name.",
        )
    known = set(present)
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} images of the list are missing, first {missing[0]!r}.",
            id="bad-list-file",
            where=folder,
        )
    return [Face(name, folder / name, person, is_low=True) for name, person in zip(names, ids, strict=True)]


def _column(tables: dict[str, list[list[str]]], ending: str) -> list[str] | None:
    found = next((table for name, table in tables.items() if name.endswith(ending)), None)
    if found is None:
        return None
    return [cell for row in found for cell in row]


def _person_of(name: str) -> str:
    return Path(name).stem.partition("_")[0]


def _testing_set(root: Path) -> Path:
    name = "Testing_Set"
    found = root if root.name == name else next(iter(parts_below(root, name)), None)
    if found is None:
        raise _other_layout(root, name)
    return found


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise _other_layout(path.parent, path.name)
    return path


def _other_layout(root: Path, wanted: Sequence[str] | str) -> DataError:
    return DataError(
        f"The folder is not laid out as the benchmark is: there is no {wanted}.",
        id="other-layout",
        where=root,
        hint="Name the folder that the archive was unpacked to.",
    )
