"""LFW, XQLFW, insightface's `.bin` sets and IJB: pairs of HR faces, or of templates of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsrface.data.benchmarks.benchmark import Benchmark, Face, Template, twin_tests
from dsrface.data.decode import walk_images
from dsrface.data.formats.validation_set import NUM_FOLDS, read_validation_set
from dsrface.data.layout import make_split
from dsrface.data.pairs import Pairs, folded
from dsrface.data.pairs_file import read_pairs
from dsrface.errors import DataError


def read_lfw(root: Path, pairs: Path | None, *, name: str = "lfw") -> Benchmark:
    """Read LFW or XQLFW: folders of persons and a `pairs.txt`, ten folds.

    Args:
        root: Folder of the images and, by default, of the list.
        pairs: The list; None looks for a file called `*pairs.txt` below the folder.
        name: `lfw` or `xqlfw`.

    Source:
        Huang, Ramesh, Berg, Learned-Miller 2007; Knoche, Hoermann, Rigoll 2021 (XQLFW).
    """
    listing = pairs or next(iter(sorted(root.rglob("*pairs.txt"))), None)
    if listing is None:
        raise DataError(
            "There is no *pairs.txt.", id="other-layout", where=root, hint="Name it with --pairs."
        )
    # Person and image are the last two parts, whatever folders the archive has around them.
    files = {"/".join(Path(file).parts[-2:]): file for file in walk_images(root) if "/" in file}
    split = make_split("test", root, files, low_folders={})
    found = read_pairs(listing, split)
    if len(found) == 0:
        raise DataError(
            f"None of the {found.num_skipped} pairs of {listing.name} has both images.",
            id="pairs-elsewhere",
            where=root,
        )
    used = np.union1d(found.first, found.second)
    place = np.full(len(split), -1)
    place[used] = np.arange(len(used))
    names = [split.names[position] for position in used.tolist()]
    faces = [Face(item, root / files[item], item.partition("/")[0], is_low=False) for item in names]
    kept = Pairs(
        place[found.first], place[found.second], found.is_same, found.origin, found.fold, found.num_folds
    )
    notes = (
        (f"{found.num_skipped} pairs are left out: their images are missing",) if found.num_skipped else ()
    )
    return Benchmark(name, faces, pair_tests=twin_tests(kept), has_twins=True, notes=notes)


def read_bin(path: Path) -> Benchmark:
    """Read a `.bin` set of insightface; its ten folds are equal parts in the order of the file.

    The file does not say who the persons are: images that are linked by genuine pairs, or equal, count as
    one.
    """
    content = read_validation_set(path)
    num_pairs = len(content.is_same)
    folds = np.concatenate(
        [
            np.full(len(part), number)
            for number, part in enumerate(np.array_split(np.arange(num_pairs), NUM_FOLDS))
        ]
    )
    rows = [(2 * k, 2 * k + 1, is_same, int(folds[k])) for k, is_same in enumerate(content.is_same)]
    pairs = folded(rows, f"10 folds of {path.name}", num_folds=min(NUM_FOLDS, num_pairs))
    persons = _linked(content.images, content.is_same)
    faces = [
        Face(f"{path.name}, image {number}", image, f"group {persons[number]}", is_low=False)
        for number, image in enumerate(content.images)
    ]
    note = "persons are not named in such a file: images linked by genuine pairs count as one person"
    return Benchmark("bin", faces, pair_tests=twin_tests(pairs), has_twins=True, notes=(note,))


def read_ijb(root: Path) -> Benchmark:
    """Read IJB-B or IJB-C: templates of several images, aligned by the five points of its list.

    Source:
        Maze et al. 2018 (IJB-C); the files as insightface's `recognition/_evaluation_/ijb` has them.
    """
    crops = next(root.rglob("loose_crop"), None)
    files = {part: _only(root, f"*{part}.txt") for part in ("face_tid_mid", "template_pair_label")}
    points_file = _only(root, "*name_5pts_score.txt")
    if crops is None:
        raise DataError("There is no folder loose_crop.", id="other-layout", where=root)
    points = {}
    for line, fields in _table(points_file, 12):
        del line
        points[fields[0]] = np.array([float(value) for value in fields[1:11]]).reshape(5, 2)
    faces: list[Face] = []
    members: dict[str, list[tuple[int, int]]] = {}
    for line, (name, template, medium) in _table(files["face_tid_mid"], 3):
        if name not in points:
            raise DataError(f"There are no points of {name!r}.", id="bad-list-file", where=f"{line}")
        members.setdefault(template, []).append((len(faces), int(medium)))
        faces.append(Face(name, crops / name, f"template {template}", is_low=False, points=points[name]))
    order = {template: number for number, template in enumerate(members)}
    rows = []
    for line, (first, second, label) in _table(files["template_pair_label"], 3):
        if first not in order or second not in order or label not in {"0", "1"}:
            raise DataError(
                "The pair names no template, or its label is not 0 or 1.", id="bad-list-file", where=line
            )
        rows.append((order[first], order[second], label == "1", 0))
    pairs = folded(rows, f"{len(rows)} pairs of templates", num_folds=1)
    persons = _linked_templates(pairs, len(order))
    templates = tuple(
        Template(
            np.array([face for face, _ in found]),
            np.array([medium for _, medium in found]),
            f"group {persons[order[template]]}",
        )
        for template, found in members.items()
    )
    note = "persons are not named: templates linked by genuine pairs count as one person"
    return Benchmark(
        "ijb",
        faces,
        pair_tests=twin_tests(pairs),
        templates=templates,
        fars=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        has_twins=True,
        notes=(note,),
    )


def _only(root: Path, pattern: str) -> Path:
    found = sorted(root.rglob(pattern))
    if len(found) != 1:
        raise DataError(
            f"There must be one file {pattern}; there are {len(found)}.", id="other-layout", where=root
        )
    return found[0]


def _table(path: Path, num_fields: int) -> list[tuple[str, list[str]]]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        fields = line.split()
        if fields and len(fields) != num_fields:
            raise DataError(
                f"{num_fields} fields are needed; there are {len(fields)}.",
                id="bad-list-file",
                where=f"{path}, line {number}",
            )
        if fields:
            rows.append((f"{path}, line {number}", fields))
    return rows


def _linked(images: Sequence[bytes], is_same: Sequence[bool]) -> list[int]:
    first_of: dict[bytes, int] = {}
    links = [(2 * k, 2 * k + 1) for k, same in enumerate(is_same) if same]
    for number, image in enumerate(images):
        links.append((number, first_of.setdefault(hashlib.sha256(image).digest(), number)))
    return _groups(len(images), links)


def _linked_templates(pairs: Pairs, num: int) -> list[int]:
    is_same = pairs.is_same
    return _groups(num, list(zip(pairs.first[is_same].tolist(), pairs.second[is_same].tolist(), strict=True)))


def _groups(num: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return the number of the connected group of each item."""
    parent = list(range(num))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in links:
        parent[root(first)] = root(second)
    return [root(item) for item in range(num)]
