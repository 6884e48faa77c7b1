"""Many strings as two tensors, so that DataLoader workers share them instead of copying them page by page."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

_CHUNK = 65536


class PackedStrings(Sequence[str]):
    """An immutable sequence of strings held as UTF-8 bytes and offsets.

    A Python list of names is copied into every forked worker as its reference counts are touched, and pickled
    whole for every spawned one; two tensors are neither: torch hands them over in shared memory.

    Args:
        data: uint8 [total bytes], all strings after one another.
        offsets: int64 [N + 1], where each string starts, and the end.
    """

    def __init__(self, data: Tensor, offsets: Tensor) -> None:
        self.data = data
        self.offsets = offsets

    @classmethod
    def from_list(cls, strings: Iterable[str]) -> PackedStrings:
        """Pack strings; names that are no valid Unicode on disk keep their bytes (surrogateescape)."""
        data, lengths = bytearray(), array("q", [0])
        for text in strings:
            encoded = text.encode("utf-8", "surrogateescape")
            data += encoded
            lengths.append(len(encoded))
        offsets = np.cumsum(np.frombuffer(lengths, np.int64))
        return cls(torch.from_numpy(np.frombuffer(data, np.uint8).copy()), torch.from_numpy(offsets))

    def __len__(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> PackedStrings: ...
    def __getitem__(self, index: int | slice) -> str | PackedStrings:
        if isinstance(index, slice):
            return PackedStrings.from_list([self[i] for i in range(*index.indices(len(self)))])
        position = int(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} in {len(self)} strings")
        start, end = self.offsets[position : position + 2].tolist()
        return self.data[start:end].numpy().tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        data = self.data.numpy().data
        for first in range(0, len(self), _CHUNK):  # a list of all offsets would take more than the strings
            for start, end in itertools.pairwise(self.offsets[first : first + _CHUNK + 1].tolist()):
                yield data[start:end].tobytes().decode("utf-8", "surrogateescape")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedStrings):
            return torch.equal(self.data, other.data) and torch.equal(self.offsets, other.offsets)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedStrings({len(self)} strings)"
