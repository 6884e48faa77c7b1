"""Verification pairs in the format of LFW: read from a file, or generated from a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.data import draws
from dsrface.data.layout import FaceSplit, person_of
from dsrface.errors import DataError

_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures of one split.

    Args:
        first: int64 [P], positions in the split.
        second: int64 [P].
        is_same: bool [P], whether both show one person.
        fold: int64 [P], 0-based fold of each pair.
        num_folds: Number of folds.
        num_skipped: Pairs of the file that name pictures outside the split.
        are_folds_disjoint: Whether no person is in two folds.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    num_folds: int
    num_skipped: int = 0
    are_folds_disjoint: bool = False

    def __len__(self) -> int:
        return len(self.first)


def read_pairs(path: Path, split: FaceSplit, *, skip_absent: bool = False) -> Pairs:
    """Read LFW's `pairs.txt`.

    Line 1 holds the number of folds and of pairs of each kind in a fold (or only the latter, for one fold);
    every fold has its genuine lines `name i j` and then its impostor lines `name1 i name2 j`, separated by
    tabs or blanks. A byte order mark and any line ends are fine.

    Args:
        path: The file.
        split: Where the pictures are looked up: image `i` of a person is `<name>_<i>` with any leading zeros.
        skip_absent: Leave out pairs whose pictures are not in the split, as other splits of the same data
            hold them.

    Raises:
        DataError: not as described, or an absent picture; with the line.
    """
    lines = _lines(path)
    num_folds, num_pairs = _header(lines, path)
    expected = 2 * num_folds * num_pairs
    if len(lines) - 1 != expected:
        raise DataError(
            f"The first line promises {expected} pairs ({num_folds} folds of {num_pairs} + {num_pairs}); "
            f"{len(lines) - 1} follow.",
            id="bad-pairs",
            where=f"{path}, line {lines[-1][0]}",
            hint="Complete the file, or correct the first line.",
        )
    positions = _positions(split)
    rows: list[tuple[int, int, bool, int]] = []
    num_skipped = 0
    for number, (line, fields) in enumerate(lines[1:]):
        where = f"{path}, line {line}"
        is_same = number % (2 * num_pairs) < num_pairs
        found = [positions.get(key) for key in _keys(fields, is_same=is_same, where=where)]
        if found[0] is None or found[1] is None:
            if not skip_absent:
                raise DataError(
                    f"The {split.name} split has no picture for {' '.join(fields)!r}.",
                    id="pair-absent",
                    where=where,
                    hint="Is this the pairs file of these persons?",
                )
            num_skipped += 1
            continue
        rows.append((found[0], found[1], is_same, number // (2 * num_pairs)))
    return _pairs(rows, split, num_folds, num_skipped)


def generate_pairs(split: FaceSplit, *, seed: int, folds: int = 10, max_per_fold: int = 300) -> Pairs:
    """Return as many genuine as impostor pairs in folds that share no person.

    Args:
        split: At least two persons, one of them with two pictures.
        seed: With the split it fixes the pairs.
        folds: Wished number; fewer when there are not two persons, one with two pictures, for each.
        max_per_fold: Largest number of genuine pairs, and of impostor pairs, in a fold.

    Raises:
        DataError: the split cannot give both kinds of pair.
    """
    rng = draws.generator(seed, 0, 0, "pairs")
    members = _members(split)
    rich = [label for label in rng.permutation(len(members)) if len(members[label]) > 1]
    poor = [label for label in rng.permutation(len(members)) if len(members[label]) == 1]
    num_folds = min(folds, len(rich), len(members) // 2)
    if num_folds == 0:
        raise DataError(
            f"The {split.name} split has {len(members)} persons, {len(rich)} of them with two pictures.",
            id="too-few-persons",
            where=split.root,
            hint="Verification needs two persons, one of them with two pictures.",
        )
    rows: list[tuple[int, int, bool, int]] = []
    shared = _deal([*rich, *poor], num_folds)
    for fold, labels in enumerate(shared):
        genuine = [
            (a, b) for label in labels for n, a in enumerate(members[label]) for b in members[label][n + 1 :]
        ]
        if len(genuine) > max_per_fold:
            genuine = [
                genuine[item] for item in sorted(rng.choice(len(genuine), max_per_fold, replace=False))
            ]
        rows += [(int(a), int(b), True, fold) for a, b in genuine]
        rows += [(a, b, False, fold) for a, b in _impostors(labels, members, len(genuine), rng)]
    return _pairs(rows, split, num_folds, 0)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the pairs file: {error}.", id="bad-pairs", where=path) from None
    # Tabs when a line has any, because names may hold blanks then.
    numbered = [
        (number, [part.strip() for part in line.split("\t")] if "\t" in line else line.split())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if not numbered:
        raise DataError("The pairs file is empty.", id="bad-pairs", where=path)
    return numbered


def _header(lines: Sequence[tuple[int, list[str]]], path: Path) -> tuple[int, int]:
    line, fields = lines[0]
    if len(fields) in (1, 2) and all(field.isdecimal() and int(field) > 0 for field in fields):
        return (1, int(fields[0])) if len(fields) == 1 else (int(fields[0]), int(fields[1]))
    raise DataError(
        f"The first line must hold the numbers of folds and of pairs, not {' '.join(fields)!r}.",
        id="bad-pairs",
        where=f"{path}, line {line}",
    )


def _keys(fields: Sequence[str], *, is_same: bool, where: str) -> list[tuple[str, int]]:
    wanted = "name i j" if is_same else "name1 i name2 j"
    if len(fields) != (3 if is_same else 4):
        raise DataError(f"Expected {wanted!r}, not {' '.join(fields)!r}.", id="bad-pairs", where=where)
    names = [fields[0], fields[0] if is_same else fields[2]]
    numbers = [fields[1], fields[2] if is_same else fields[3]]
    for text in numbers:
        if not text.isdecimal():
            raise DataError(f"{text!r} is not the number of a picture.", id="bad-pairs", where=where)
    if not is_same and names[0] == names[1]:
        raise DataError(f"An impostor pair names {names[0]!r} twice.", id="bad-pairs", where=where)
    return [(name, int(text)) for name, text in zip(names, numbers, strict=True)]


def _positions(split: FaceSplit) -> dict[tuple[str, int], int]:
    positions = {}
    for position, name in enumerate(split.names):
        number = _NUMBER.search(name.rpartition(".")[0])
        if number:
            positions[person_of(name), int(number[1])] = position
    return positions


def _members(split: FaceSplit) -> list[NDArray[np.int64]]:
    labels = split.labels.numpy()
    return [np.flatnonzero(labels == label) for label in range(len(split.persons))]


def _deal(labels: Sequence[int], num_folds: int) -> list[list[int]]:
    """Deal persons out like cards: those with several pictures come first, so each fold gets one."""
    return [list(labels[fold::num_folds]) for fold in range(num_folds)]


def _impostors(
    labels: Sequence[int], members: Sequence[NDArray[np.int64]], num: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Return `num` different pairs of different persons, or all there are."""
    sizes = [len(members[label]) for label in labels]
    possible = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
    chosen: dict[tuple[int, int], None] = {}
    while len(chosen) < min(num, possible):
        first, second = rng.choice(len(labels), 2, replace=False)
        pair = (int(rng.choice(members[labels[first]])), int(rng.choice(members[labels[second]])))
        chosen[min(pair), max(pair)] = None
    return list(chosen)


def _pairs(
    rows: Sequence[tuple[int, int, bool, int]], split: FaceSplit, num_folds: int, num_skipped: int
) -> Pairs:
    table = np.array(rows, np.int64).reshape(-1, 4)
    labels = split.labels.numpy()
    owners = np.concatenate([labels[table[:, 0]], labels[table[:, 1]]])
    folds = np.concatenate([table[:, 3], table[:, 3]])
    num_places = len(np.unique(np.stack([owners, folds]), axis=1).T)
    return Pairs(
        first=table[:, 0],
        second=table[:, 1],
        is_same=table[:, 2].astype(bool),
        fold=table[:, 3],
        num_folds=num_folds,
        num_skipped=num_skipped,
        are_folds_disjoint=num_places == len(np.unique(owners)),
    )
