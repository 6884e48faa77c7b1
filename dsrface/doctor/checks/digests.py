"""Batches as hashes, item by item, so that those of workers can be compared with those of this process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch


def detached(batch: Any) -> Any:
    """Copy a batch out of shared memory, so that keeping it holds no descriptors."""
    if isinstance(batch, torch.Tensor):
        return batch.detach().clone()
    if isinstance(batch, Mapping):
        return {key: detached(value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(detached(value) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(detached(value) for value in batch)
    return batch


def row_digests(batch: Any) -> list[str]:
    """Return the hash of every item of a batch."""
    rows = _num_rows(batch)
    return [digest(batch, row, rows) for row in range(rows)]


def _num_rows(batch: Any) -> int:
    if isinstance(batch, torch.Tensor):
        return int(batch.shape[0]) if batch.ndim else 1
    values: Sequence[Any] = ()
    if isinstance(batch, Mapping):
        values = list(batch.values())
    elif isinstance(batch, (list, tuple)):
        values = batch
    elif hasattr(batch, "__dict__"):
        values = list(vars(batch).values())
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return _num_rows(tensors[0]) if tensors else len(values)


def digest(batch: Any, row: int, rows: int) -> str:
    """Return a hash of one item's part of a batch."""
    total = hashlib.blake2b(digest_size=16)
    _feed(total, batch, row, rows)
    return total.hexdigest()


def _feed(total: Any, value: Any, row: int, rows: int) -> None:
    if isinstance(value, torch.Tensor):
        part = value[row] if value.ndim and value.shape[0] == rows else value
        part = part.detach().cpu().contiguous()
        total.update(str(part.dtype).encode() + str(tuple(part.shape)).encode())
        total.update(part.reshape(-1).view(torch.uint8).numpy().tobytes() if part.numel() else b"")
    elif isinstance(value, Mapping):
        for key in value:
            total.update(str(key).encode())
            _feed(total, value[key], row, rows)
    elif isinstance(value, (list, tuple)):
        is_column = len(value) == rows and not any(
            isinstance(part, (torch.Tensor, Mapping)) for part in value
        )
        for part in [value[row]] if is_column else value:
            _feed(total, part, row, rows)
    elif hasattr(value, "__dict__"):
        _feed(total, vars(value), row, rows)
    else:
        total.update(repr(value).encode())
