"""Which images are compared with which: all with all, or as many of one person as of two, by folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsrface.data import draws
from dsrface.data.layout import FaceSplit
from dsrface.errors import DataError
from dsrface.runtime.text import count_text

_MAX_FOLDS = 10
_MAX_PER_FOLD = 300


@dataclass(frozen=True)
class Pairs:
    """Pairs of images of one split.

    Args:
        first: int64 [P], positions in the split.
        second: int64 [P].
        is_same: bool [P], whether both show one person.
        origin: Where they come from, in words.
        fold: int64 [P], 0-based fold of each pair; None without folds.
        num_folds: Number of folds.
        num_skipped: Pairs of a file that name images outside the split.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    origin: str
    fold: NDArray[np.int64] | None = None
    num_folds: int = 0
    num_skipped: int = 0

    def __len__(self) -> int:
        return len(self.first)

    @property
    def num_genuine(self) -> int:
        """Pairs of one person."""
        return int(self.is_same.sum())

    @property
    def num_impostor(self) -> int:
        """Pairs of two persons."""
        return len(self) - self.num_genuine

    def without(self, positions: Sequence[int]) -> Pairs:
        """Return the pairs that name none of some images."""
        kept = ~(np.isin(self.first, positions) | np.isin(self.second, positions))
        fold = None if self.fold is None else self.fold[kept]
        return replace(
            self, first=self.first[kept], second=self.second[kept], is_same=self.is_same[kept], fold=fold
        )


def all_pairs(persons: NDArray[np.int64], *, max_pairs: int, seed: int) -> Pairs:
    """Return all pairs of images, or all genuine pairs and as many impostor pairs as are permitted.

    Impostor pairs are then drawn by person: two persons, and an image of each, so that persons with many
    images do not fill the list. More genuine pairs than half of `max_pairs` are thinned out by drawing as
    well.

    Args:
        persons: Person of each image, 0-based.
        max_pairs: Pairs at most.
        seed: Fixes the draws.
    """
    num = len(persons)
    if num * (num - 1) // 2 <= max_pairs:
        first, second = np.triu_indices(num, 1)
        return _unfolded(first, second, persons, "all pairs of images")
    rng = draws.generator(seed, 0, 0, "evaluate-pairs")
    genuine = _genuine(persons)
    origin = "all genuine pairs"
    if len(genuine) > max_pairs // 2:
        genuine = genuine[np.sort(rng.choice(len(genuine), max_pairs // 2, replace=False))]
        origin = "genuine pairs drawn"
    impostor = _drawn_impostors(persons, max_pairs - len(genuine), rng)
    both = np.concatenate([genuine, impostor])
    origin = f"{origin}, impostor pairs drawn by person (seed {seed})"
    return _unfolded(both[:, 0], both[:, 1], persons, origin)


def both_ways(pairs: Pairs) -> Pairs:
    """Return every pair and its reverse, in the same fold."""
    return replace(
        pairs,
        first=np.concatenate([pairs.first, pairs.second]),
        second=np.concatenate([pairs.second, pairs.first]),
        is_same=np.tile(pairs.is_same, 2),
        fold=None if pairs.fold is None else np.tile(pairs.fold, 2),
    )


def generate_pairs(split: FaceSplit, *, seed: int) -> Pairs:
    """Return as many genuine as impostor pairs in ten folds that share no person.

    There are fewer folds when there are not two persons, one with two images, for each; and at most 300
    pairs of a kind in a fold, or as many as its persons can give of the rarer kind.

    Args:
        split: At least two persons, one of them with two images.
        seed: With the split it fixes the pairs.

    Raises:
        DataError: the split cannot give both kinds of pair.
    """
    rng = draws.generator(seed, 0, 0, "pairs")
    members = _members(split)
    rich = [label for label in rng.permutation(len(members)) if len(members[label]) > 1]
    poor = [label for label in rng.permutation(len(members)) if len(members[label]) == 1]
    num_folds = min(_MAX_FOLDS, len(rich), len(members) // 2)
    if num_folds == 0:
        raise DataError(
            f"The {split.name} split has {count_text(len(members), 'person')}, {len(rich)} of them with two "
            "images.",
            id="too-few-persons",
            where=split.root,
            hint="Verification needs two persons, one of them with two images.",
        )
    rows: list[tuple[int, int, bool, int]] = []
    shared = _deal([*rich, *poor], num_folds)
    for fold, labels in enumerate(shared):
        genuine = [
            (a, b) for label in labels for n, a in enumerate(members[label]) for b in members[label][n + 1 :]
        ]
        impostor = _impostors(labels, members, min(len(genuine), _MAX_PER_FOLD), rng)
        if len(genuine) > len(impostor):
            kept = rng.choice(len(genuine), len(impostor), replace=False)
            genuine = [genuine[item] for item in sorted(kept)]
        rows += [(int(a), int(b), True, fold) for a, b in genuine]
        rows += [(a, b, False, fold) for a, b in impostor]
    return folded(rows, f"{num_folds} folds that share no person (seed {seed})", num_folds=num_folds)


def folded(
    rows: Sequence[tuple[int, int, bool, int]], origin: str, *, num_folds: int, num_skipped: int = 0
) -> Pairs:
    """Return pairs from rows of first, second, whether they show one person, and fold."""
    table = np.array(rows, np.int64).reshape(-1, 4)
    is_same = table[:, 2].astype(bool)
    return Pairs(table[:, 0], table[:, 1], is_same, origin, table[:, 3], num_folds, num_skipped)


def _unfolded(
    first: NDArray[np.int64], second: NDArray[np.int64], persons: NDArray[np.int64], origin: str
) -> Pairs:
    return Pairs(first.astype(np.int64), second.astype(np.int64), persons[first] == persons[second], origin)


def _genuine(persons: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(persons, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(persons[order])) + 1)
    pairs = [group[np.stack(np.triu_indices(len(group), 1), axis=1)] for group in groups]
    return np.concatenate(pairs)


def _drawn_impostors(persons: NDArray[np.int64], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    order = np.argsort(persons, kind="stable")
    names, starts, sizes = np.unique(persons[order], return_index=True, return_counts=True)
    if len(names) < 2:
        return np.empty((0, 2), np.int64)
    total = len(persons)
    possible = (total**2 - int(np.sum(sizes.astype(np.int64) ** 2))) // 2
    keys = np.empty(0, np.int64)
    while len(keys) < min(num, possible):
        wanted = 2 * (min(num, possible) - len(keys)) + 16
        one = rng.integers(0, len(names), wanted)
        other = (one + rng.integers(1, len(names), wanted)) % len(names)
        pick = [order[starts[who] + rng.integers(0, sizes[who])] for who in (one, other)]
        fresh = np.minimum(*pick) * total + np.maximum(*pick)
        joined = np.concatenate([keys, fresh])
        # Without repeats, in order of drawing.
        keys = joined[np.sort(np.unique(joined, return_index=True)[1])]
    keys = np.sort(keys[:num])
    return np.stack([keys // total, keys % total], axis=1)


def _members(split: FaceSplit) -> list[NDArray[np.int64]]:
    labels = split.labels.numpy()
    return [np.flatnonzero(labels == label) for label in range(len(split.persons))]


def _deal(labels: Sequence[int], num_folds: int) -> list[list[int]]:
    """Deal persons out like cards: those with several images come first, so each fold gets one."""
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
