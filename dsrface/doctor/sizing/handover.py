"""What a batch costs besides its items: collating, sending to the training process, pinning."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from dsrface.doctor.sizing.account import COLLATE
from dsrface.doctor.sizing.loader_model import BATCH_OVERHEAD_S

SEND, PIN = "send to the training process", "pin"
_TIMES = 3
_LONG_S = 0.3  # is not repeated


def batch_costs(collate: Callable[[Any], Any], items: Any, batch: Any) -> dict[str, float]:
    """Return by name the seconds of a batch.

    Sending is the copy of its tensors into fresh shared memory, and the queue. Pinning is measured where CUDA
    is in use.

    Args:
        collate: Makes a batch of `items`.
        items: What it takes.
        batch: What it has made.
    """
    leaves = [part for part in tree_flatten(batch)[0] if isinstance(part, torch.Tensor) and part.is_cpu]
    dense = [part.detach() for part in leaves if part.layout == torch.strided]
    found = {
        COLLATE: _median(lambda: time_of(lambda: collate(items))),
        SEND: BATCH_OVERHEAD_S + _median(lambda: _share_s(dense)),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found[PIN] = _median(lambda: time_of(lambda: [tensor.pin_memory() for tensor in dense]))
    return found


def elements_of(batch: Any, num_items: int) -> float:
    """Return the numbers in the largest tensor of a batch, per item."""
    leaves = [part.numel() for part in tree_flatten(batch)[0] if isinstance(part, torch.Tensor)]
    return max(leaves, default=0) / num_items


def time_of(action: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _share_s(tensors: Sequence[torch.Tensor]) -> float:
    copies = [tensor.clone() for tensor in tensors]
    return time_of(lambda: [copy.share_memory_() for copy in copies])  # type: ignore[no-untyped-call]


def _median(measure: Callable[[], float]) -> float:
    first = measure()
    return first if first > _LONG_S else statistics.median([measure() for _ in range(_TIMES)])
