"""Which pictures are compared with which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsrface.data import draws


@dataclass(frozen=True)
class PairList:
    """Pairs of pictures, as positions in the split.

    Args:
        first: int64 [n]; the HR picture where HR is compared with LR.
        second: int64 [n].
        is_same: bool [n].
        origin: Where they come from, in words.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    origin: str

    def __len__(self) -> int:
        return len(self.first)

    @property
    def num_genuine(self) -> int:
        """Pairs of one person."""
        return int(self.is_same.sum())


def all_pairs(persons: NDArray[np.int64], *, max_pairs: int, seed: int) -> PairList:
    """Return all pairs of pictures, or all genuine pairs and as many impostor pairs as are permitted.

    Impostor pairs are then drawn by person: two persons, and a picture of each, so that persons with many
    pictures do not fill the list. More genuine pairs than half of `max_pairs` are thinned out by drawing as
    well.

    Args:
        persons: Person of each picture, 0-based.
        max_pairs: Pairs at most.
        seed: Fixes the draws.
    """
    num = len(persons)
    if num * (num - 1) // 2 <= max_pairs:
        first, second = np.triu_indices(num, 1)
        return _pair_list(first, second, persons, "all pairs of pictures")
    rng = draws.generator(seed, 0, 0, "evaluate-pairs")
    genuine = _genuine(persons)
    origin = "all genuine pairs"
    if len(genuine) > max_pairs // 2:
        genuine = genuine[np.sort(rng.choice(len(genuine), max_pairs // 2, replace=False))]
        origin = "genuine pairs drawn"
    impostor = _impostor(persons, max_pairs - len(genuine), rng)
    both = np.concatenate([genuine, impostor])
    return _pair_list(
        both[:, 0], both[:, 1], persons, f"{origin}, impostor pairs drawn by person (seed {seed})"
    )


def _pair_list(
    first: NDArray[np.int64], second: NDArray[np.int64], persons: NDArray[np.int64], origin: str
) -> PairList:
    return PairList(
        first.astype(np.int64), second.astype(np.int64), persons[first] == persons[second], origin
    )


def _genuine(persons: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(persons, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(persons[order])) + 1)
    pairs = [group[np.stack(np.triu_indices(len(group), 1), axis=1)] for group in groups]
    return np.concatenate(pairs)


def _impostor(persons: NDArray[np.int64], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
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
        keys = joined[
            np.sort(np.unique(joined, return_index=True)[1])
        ]  # without repeats, in order of drawing
    keys = np.sort(keys[:num])
    return np.stack([keys // total, keys % total], axis=1)
