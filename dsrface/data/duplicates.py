"""The same picture twice: under two persons it poisons training, across splits it flatters the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Correlation from which two pictures count as one. Two aligned faces of different persons reach 0.95; a copy
# that was resized, recompressed or darkened keeps 0.975.
_NEAR = 0.965
_BLOCK = 4096
_ALL_PAIRS_LIMIT = 60_000


def equal_across_persons(digests: Sequence[str], persons: Sequence[str]) -> list[list[int]]:
    """Return groups of positions with equal pixels that lie under more than one person."""
    groups: dict[str, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [group for group in groups.values() if len({persons[item] for item in group}) > 1]


def near_across_persons(thumbs: NDArray[np.float32], persons: Sequence[str]) -> list[tuple[int, int, float]]:
    """Return pairs of pictures of different persons that look the same.

    Up to 60,000 pictures every pair is compared; beyond, only pictures that fall into the same of 4,096 bins
    by random projections, twice over, which finds most copies.

    Args:
        thumbs: float32 [N, D], zero mean and unit length.
        persons: Person of each.

    Returns:
        (first, second, correlation), the most alike first.
    """
    numbers = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True)[1]
    found: dict[tuple[int, int], float] = {}
    for rows in _groups(thumbs):
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            alike = thumbs[block] @ thumbs[rows[start:]].T
            alike[numbers[block][:, None] == numbers[rows[start:]][None, :]] = -1.0
            for first, second in np.argwhere(alike >= _NEAR):
                pair = sorted((int(block[first]), int(rows[start + second])))
                found[pair[0], pair[1]] = float(alike[first, second])
    pairs = [(first, second, value) for (first, second), value in found.items()]
    return sorted(pairs, key=lambda item: (-item[2], item[0], item[1]))


def _groups(thumbs: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    if len(thumbs) <= _ALL_PAIRS_LIMIT:
        yield np.arange(len(thumbs))
        return
    centred = thumbs - thumbs.mean(0)
    for table in range(2):
        directions = np.random.default_rng(table).standard_normal((thumbs.shape[1], 12)).astype(np.float32)
        bins = ((centred @ directions) > 0) @ (1 << np.arange(12))
        order = np.argsort(bins, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(bins[order])) + 1)
