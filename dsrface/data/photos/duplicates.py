"""The same image twice: under two persons it spoils training, across splits it inflates the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Correlation from which two images count as one. Two aligned faces of different persons reach 0.95; a copy
# that was resized, recompressed or darkened keeps 0.975.
_NEAR = 0.965
_BLOCK = 4096
_ALL_PAIRS_LIMIT = 60_000


def equal_across_persons(digests: Sequence[bytes], persons: Sequence[str]) -> list[list[int]]:
    """Return groups of positions with equal pixels under more than one person."""
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [group for group in groups.values() if len({persons[item] for item in group}) > 1]


def near_across_persons(
    thumbs: NDArray[np.int8], persons: Sequence[str], *, max_listed: int
) -> tuple[int, list[tuple[int, int, float]]]:
    """Count pairs of images of different persons that look the same, and list the most alike of them.

    Up to 60,000 images every pair is compared; beyond, only images that fall into the same of 4,096 bins
    by random projections, twice over, which finds most copies. Memory does not grow with the number of pairs.

    Args:
        thumbs: int8 [N, D], zero mean; may be a file mapped into memory, which is read a part at a time.
        persons: Person of each.
        max_listed: Pairs listed at most.

    Returns:
        The number of pairs, and (first, second, correlation), the most alike first.
    """
    numbers = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True)[1]
    num_pairs = 0
    listed: list[tuple[int, int, float]] = []
    earlier = np.arange(len(thumbs))  # the bin of each image in the table before
    for bins in _tables(thumbs):
        for first, second in _blocks(bins):
            alike = _unit(thumbs[first]) @ _unit(thumbs[second]).T
            is_same = numbers[first][:, None] == numbers[second][None, :]
            was_seen = earlier[first][:, None] == earlier[second][None, :]
            alike[is_same | was_seen | (first[:, None] >= second[None, :])] = -1.0
            near = np.flatnonzero(alike >= _NEAR)
            num_pairs += len(near)
            values = alike.reshape(-1)[near]
            for place in np.argsort(-values, kind="stable")[:max_listed].tolist():
                row, column = divmod(int(near[place]), len(second))
                listed.append((int(first[row]), int(second[column]), float(values[place])))
            listed = sorted(listed, key=lambda item: (-item[2], *item[:2]))[:max_listed]
        earlier = bins
    return num_pairs, listed


def _blocks(bins: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield parts of the images of a bin, each with itself and every later part of that bin; ascending."""
    order = np.argsort(bins, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(bins[order])) + 1):
        parts = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
        for number, part in enumerate(parts):
            yield from ((part, other) for other in parts[number:])


def _unit(thumbs: NDArray[np.int8]) -> NDArray[np.float32]:
    values = thumbs.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = values / np.maximum(lengths, 1e-6)
    return scaled


def _tables(thumbs: NDArray[np.int8]) -> Iterator[NDArray[np.int64]]:
    """Yield the bin of each image, once or twice; only images of one bin are compared."""
    if len(thumbs) <= _ALL_PAIRS_LIMIT:
        yield np.zeros(len(thumbs), np.int64)
        return
    parts = range(0, len(thumbs), _BLOCK)
    mean = sum(_unit(thumbs[start : start + _BLOCK]).sum(0) for start in parts) / len(thumbs)
    for table in range(2):
        directions = np.random.default_rng(table).standard_normal((thumbs.shape[1], 12)).astype(np.float32)
        sides = [(_unit(thumbs[start : start + _BLOCK]) - mean) @ directions > 0 for start in parts]
        yield np.concatenate(sides) @ (1 << np.arange(12))
