"""Open what `dsrface precompute` wrote, whichever format it has: one loader interface for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

from dsrface.data.layout import FaceSplit
from dsrface.data.samplers import EpochOrder, RankedSampler
from dsrface.types import Batch

Resident = Literal["auto", "always", "never"]


class OutputsLoader(Protocol):
    """What `open_outputs` returns; `data.loaders.Loader` and `PackedReader` are both one."""

    @property
    def num_batches(self) -> int:
        """Batches an epoch on this rank."""
        ...

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch; one on the CPU is valid until the next is asked for."""
        ...

    def close(self) -> None:
        """Stop threads and workers."""
        ...


def make_order(split: FaceSplit, outputs_dir: Path, *, seed: int) -> EpochOrder:
    """Return the order to give to a `BatchSampler` over these outputs.

    It is a global permutation, or, for a cache that does not fit in memory, one that is shuffled within windows
    of blocks, so that the disk is read in large pieces.
    """
    raise NotImplementedError


def open_outputs(
    split: FaceSplit,
    outputs_dir: Path,
    *,
    sampler: RankedSampler,
    size_px: int,
    device: str = "cpu",
    resident: Resident = "auto",
    num_workers: int = 0,
    start_method: str | None = None,
    prefetch_factor: int = 2,
    timeout_s: float = 0,
    note: Callable[[str], None] | None = None,
) -> OutputsLoader:
    """Return batches of (DSR output, HR twin, label) for a split, from a packed cache or a PNG tree.

    Args:
        split: Names and labels; it may be part of what the cache holds.
        outputs_dir: Folder that `dsrface precompute` wrote.
        sampler: Order of the batches, this rank's share of them.
        size_px: Side of the VLR images that the outputs were made from, to check that those are unchanged.
        device: Where the batches will be used; `"cuda..."` gives pinned or resident batches.
        resident: Keep the whole cache on a CUDA device: when it fits, always, or never.
        num_workers: Worker processes for a PNG tree; a cache needs none.
        start_method: How those workers start; None leaves it to torch.
        prefetch_factor: Batches that each of them prepares ahead.
        timeout_s: Longest wait for one of their batches; 0 waits for ever.
        note: Receives one line: which route was taken and why.

    Raises:
        RunError: no outputs, unfinished, stale, damaged, or of a newer schema.
    """
    raise NotImplementedError
