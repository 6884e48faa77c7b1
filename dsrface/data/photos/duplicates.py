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


def equal_across_persons(digests: Sequence[bytes], persons: Sequence[str]) -> list[list[int]]:
    """Return groups of positions with equal pixels that lie under more than one person."""
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [group for group in groups.values() if len({persons[item] for item in group}) > 1]


def near_across_persons(thumbs: NDArray[np.int8], persons: Sequence[str]) -> list[tuple[int, int, float]]:
    """Return pairs of pictures of different persons that look the same.

    Up to 60,000 pictures every pair is compared; beyond, only pictures that fall into the same of 4,096 bins
    by random projections, twice over, which finds most copies.

    Args:
        thumbs: int8 [N, D], zero mean; may be a file mapped into memory, which is read a part at a time.
        persons: Person of each.

    Returns:
        (first, second, correlation), the most alike first.
    """
    numbers = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True)[1]
    found: dict[tuple[int, int], float] = {}
    for rows in _groups(thumbs):
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            own = _unit(thumbs[block])
            for other in range(start, len(rows), _BLOCK):
                against = rows[other : other + _BLOCK]
                alike = own @ _unit(thumbs[against]).T
                alike[numbers[block][:, None] == numbers[against][None, :]] = -1.0
                for first, second in np.argwhere(alike >= _NEAR):
                    pair = sorted((int(block[first]), int(against[second])))
                    found[pair[0], pair[1]] = float(alike[first, second])
    pairs = [(first, second, value) for (first, second), value in found.items()]
    return sorted(pairs, key=lambda item: (-item[2], item[0], item[1]))


def _unit(thumbs: NDArray[np.int8]) -> NDArray[np.float32]:
    values = thumbs.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = values / np.maximum(lengths, 1e-6)
    return scaled


def _groups(thumbs: NDArray[np.int8]) -> Iterator[NDArray[np.int64]]:
    if len(thumbs) <= _ALL_PAIRS_LIMIT:
        yield np.arange(len(thumbs))
        return
    parts = range(0, len(thumbs), _BLOCK)
    mean = sum(_unit(thumbs[start : start + _BLOCK]).sum(0) for start in parts) / len(thumbs)
    for table in range(2):
        directions = np.random.default_rng(table).standard_normal((thumbs.shape[1], 12)).astype(np.float32)
        sides = [(_unit(thumbs[start : start + _BLOCK]) - mean) @ directions > 0 for start in parts]
        bins = np.concatenate(sides) @ (1 << np.arange(12))
        order = np.argsort(bins, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(bins[order])) + 1)
