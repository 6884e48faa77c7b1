"""LFW, XQLFW, CFP, insightface's `.bin` sets and IJB: pairs of HR faces, or of templates of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from dsrface.data.benchmarks.archive import only_part, parts_below, table_lines
from dsrface.data.benchmarks.benchmark import Benchmark, Face, Template, twin_tests
from dsrface.data.decode import walk_images
from dsrface.data.folders import person_of
from dsrface.data.formats.validation_set import NUM_FOLDS, read_validation_set
from dsrface.data.layout import make_split
from dsrface.data.pair_finder import numbered_person
from dsrface.data.pairs import Pairs, folded
from dsrface.data.pairs_file import read_pairs
from dsrface.errors import DataError

_LISTS = ("*pairs.txt", "*pairs.csv")
_ONE_OF_THE_CFP = "Name the folder of CFP, with its Protocol/ and its images."
_CFP_ANSWERS = {"same.txt": True, "diff.txt": False}
_ONE_OF_THE_IJB = "Name the folder of IJB-B or of IJB-C, with its lists and loose_crop."


def read_lfw(root: Path, pairs: Path | None, *, name: str = "lfw") -> Benchmark:
    """Read LFW or XQLFW: folders of persons and a `pairs.txt`, ten folds.

    Args:
        root: Folder of the images and, by default, of the list.
        pairs: The list; None looks for a file called `*pairs.txt` or `*pairs.csv` below the folder.
        name: `lfw` or `xqlfw`.

    Raises:
        DataError: no list, several lists or images of one name, or no image of the list.

    Source:
        Huang, Ramesh, Berg, Learned-Miller 2007; Knoche, Hoermann, Rigoll 2021 (XQLFW).
    """
    pattern = next((name for name in _LISTS if parts_below(root, name)), _LISTS[0])
    hint = "The list is called *pairs.txt or *pairs.csv; name another one with --pairs FILE."
    listing = pairs or only_part(root, pattern, hint=hint)
    files = _by_person_and_name(root)
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
    kept = Pairs(
        place[found.first], place[found.second], found.is_same, found.origin, found.fold, found.num_folds
    )
    persons, notes = _persons_of(names, kept)
    faces = [
        Face(item, root / files[item], person, is_low=False)
        for item, person in zip(names, persons, strict=True)
    ]
    if found.num_skipped:
        notes.append(f"{found.num_skipped} pairs are left out: their images are missing")
    return Benchmark(name, faces, pair_tests=twin_tests(kept), has_twins=True, notes=tuple(notes))


def _persons_of(names: Sequence[str], pairs: Pairs) -> tuple[list[str], list[str]]:
    """Return whose each image is: by its folder or its name, or by the pairs where these contradict them."""
    for tell in (person_of, numbered_person):
        persons = np.array([tell(name) for name in names])
        if np.array_equal(persons[pairs.first] == persons[pairs.second], pairs.is_same):
            return persons.tolist(), []
    groups = _linked_by(pairs, len(names))
    note = "neither folders nor names are persons here: images linked by genuine pairs count as one person"
    return [f"group {group}" for group in groups], [note]


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


def read_cfp(root: Path, *, kind: str) -> Benchmark:
    """Read CFP: frontal faces against frontal or profile ones, in the ten folds of its `Protocol/Split`.

    The images are those that `Pair_list_F.txt` and `Pair_list_P.txt` name, or aligned copies of them anywhere
    below the folder, as `<person>/<frontal or profile>/<image>`.

    Args:
        root: Folder that the archive was unpacked to.
        kind: `FF` or `FP`.

    Raises:
        DataError: another layout, or a list that names what is not there.

    Source:
        Sengupta et al. 2016, Frontal to Profile Face Verification in the Wild.
    """
    protocol = next((path.parent for path in parts_below(root, "Pair_list_F.txt")), None)
    folds = [] if protocol is None else sorted(filter(Path.is_dir, (protocol / "Split" / kind).glob("*")))
    if protocol is None or not folds:
        raise DataError(
            f"There is no Protocol folder with Pair_list_F.txt and Split/{kind}.",
            id="other-layout",
            where=root,
            hint=_ONE_OF_THE_CFP,
        )
    names = [_cfp_images(protocol / f"Pair_list_{letter}.txt") for letter in kind]
    files = _cfp_files(root)
    place: dict[str, int] = {}
    rows: list[tuple[int, int, bool, int]] = []
    for fold, folder in enumerate(folds):
        for list_name, is_same in _CFP_ANSWERS.items():
            for line, fields in table_lines(folder / list_name, 2, separator=","):
                pair = [_cfp_image(own, number, line) for own, number in zip(names, fields, strict=True)]
                if missing := [name for name in pair if name not in files]:
                    raise DataError(
                        f"The list names {missing[0]!r}, which is not there.", id="bad-list-file", where=line
                    )
                first, second = (place.setdefault(name, len(place)) for name in pair)
                rows.append((first, second, is_same, fold))
    pairs = folded(rows, f"{len(folds)} folds of CFP's {kind}", num_folds=len(folds))
    faces = [Face(name, root / files[name], name.partition("/")[0], is_low=False) for name in place]
    return Benchmark(f"cfp_{kind.lower()}", faces, pair_tests=twin_tests(pairs), has_twins=True)


def _cfp_images(path: Path) -> dict[str, str]:
    """Return `<person>/<frontal or profile>/<image>` without suffix by its number in a list."""
    return {
        fields[0]: "/".join(PurePosixPath(fields[1]).with_suffix("").parts[-3:])
        for _, fields in table_lines(path, 2)
    }


def _cfp_image(names: Mapping[str, str], number: str, where: str) -> str:
    if number not in names:
        raise DataError(f"There is no image of the number {number!r}.", id="bad-list-file", where=where)
    return names[number]


def _cfp_files(root: Path) -> dict[str, str]:
    """Return the file of each image by the last three parts of its path without suffix."""
    found: dict[str, str] = {}
    for file in walk_images(root):
        key = "/".join(PurePosixPath(file).with_suffix("").parts[-3:])
        if found.setdefault(key, file) != file:
            raise _several_sets(found[key], file, key, root)
    return found


def read_ijb(root: Path) -> Benchmark:
    """Read IJB-B or IJB-C: templates of several images, aligned by the five points of its list.

    Source:
        Maze et al. 2018 (IJB-C); the files as insightface's `recognition/_evaluation_/ijb` has them.
    """
    crops = next(iter(parts_below(root, "loose_crop")), None)
    if crops is None:
        raise DataError("There is no folder loose_crop.", id="other-layout", where=root, hint=_ONE_OF_THE_IJB)
    members_file, pairs_file, points_file = (
        only_part(root, f"*{part}.txt", hint=_ONE_OF_THE_IJB)
        for part in ("face_tid_mid", "template_pair_label", "name_5pts_score")
    )
    points = {
        fields[0]: np.array([_number(text, line) for text in fields[1:11]]).reshape(5, 2)
        for line, fields in table_lines(points_file, 12)
    }
    faces: list[Face] = []
    members: dict[str, list[tuple[int, int]]] = {}
    for line, (name, template, medium) in table_lines(members_file, 3):
        if name not in points:
            raise DataError(f"There are no points of {name!r}.", id="bad-list-file", where=line)
        members.setdefault(template, []).append((len(faces), int(_number(medium, line))))
        faces.append(Face(name, crops / name, f"template {template}", is_low=False, points=points[name]))
    order = {template: number for number, template in enumerate(members)}
    rows = []
    for line, (first, second, label) in table_lines(pairs_file, 3):
        if first not in order or second not in order or label not in {"0", "1"}:
            raise DataError(
                "The pair names no template, or its label is not 0 or 1.", id="bad-list-file", where=line
            )
        rows.append((order[first], order[second], label == "1", 0))
    pairs = folded(rows, f"{len(rows)} pairs of templates", num_folds=1)
    persons = _linked_by(pairs, len(order))
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


def _by_person_and_name(root: Path) -> dict[str, str]:
    """Return the images below a folder by `person/name`, the last two parts, whatever is around them."""
    files: dict[str, str] = {}
    for file in walk_images(root):
        key = "/".join((root.resolve() / file).parts[-2:])
        if files.setdefault(key, file) != file:
            raise _several_sets(files[key], file, key, root)
    return files


def _several_sets(first: str, second: str, key: str, root: Path) -> DataError:
    return DataError(
        f"{first} and {second} are both {key}: there are several sets of images.",
        id="other-layout",
        where=root,
        hint="Name the folder of one of them, and the list with --pairs.",
    )


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{text!r} is not a number.", id="bad-list-file", where=where)
    return value


def _linked(images: Sequence[bytes], is_same: Sequence[bool]) -> list[int]:
    first_of: dict[bytes, int] = {}
    links = [(2 * k, 2 * k + 1) for k, same in enumerate(is_same) if same]
    for number, image in enumerate(images):
        links.append((number, first_of.setdefault(hashlib.sha256(image).digest(), number)))
    return _groups(len(images), links)


def _linked_by(pairs: Pairs, num: int) -> list[int]:
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
