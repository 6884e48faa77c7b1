"""Randomness without state: every draw is a function of (seed, epoch, index, stream).

That makes a batch the same for 0, 1 or N workers, for any start method, and after a resume in the middle of
an epoch.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def uniform(
    seed: int, epoch: int, indices: NDArray[np.int64], *, num: int, stream: str
) -> NDArray[np.float64]:
    """Return `num` uniform numbers for each sample.

    Args:
        seed: Any integer.
        epoch: 0-based epoch.
        indices: int64 [B], positions of the samples in the data set.
        num: Draws a sample.
        stream: Name of the purpose; other names give independent draws.

    Returns:
        float64 [B, num] in [0, 1); a row does not depend on the other rows or on `num`.

    Source:
        splitmix64 (Steele, Lea, Flood 2014), used as a counter-based hash.
    """
    base = np.uint64(_key(seed, epoch, stream))
    samples = np.asarray(indices, np.int64).astype(np.uint64)
    state = _mix(base + samples * np.uint64(_GOLDEN))
    steps = np.arange(1, num + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits = _mix(state[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(seed: int, epoch: int, index: int, stream: str) -> np.random.Generator:
    """Return numpy's generator for one sample, for draws whose number is not known beforehand."""
    key = np.array([_key(seed, epoch, stream), index & _MASK], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def name_index(name: str) -> int:
    """Return a stable 63-bit number for a name; Python's own hash() changes with every start."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _key(seed: int, epoch: int, stream: str) -> int:
    text = f"{seed}/{epoch}/{stream}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
