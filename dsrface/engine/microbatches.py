"""A batch on its way into a training step: split, moved to the device, its randomness seeded."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from dsrface.types import Batch


def split_microbatches(batch: Batch, num_parts: int) -> list[Batch]:
    """Split a batch into at most `num_parts` micro-batches of nearly equal size."""
    if num_parts == 1:
        return [batch]
    fields = [
        part.tensor_split(min(num_parts, len(batch)))
        for part in (batch.inputs, batch.high, batch.labels, batch.indices)
    ]
    parts = [
        replace(batch, inputs=a, high=b, labels=c, indices=d) for a, b, c, d in zip(*fields, strict=True)
    ]
    if batch.sizes_px is not None:
        for part, sizes_px in zip(parts, batch.sizes_px.tensor_split(len(parts)), strict=True):
            part.sizes_px = sizes_px
    return parts


def to_step_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device without waiting; the indices, for drawing, stay where they are."""
    return replace(batch.to(device), indices=batch.indices)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators from (seed, step, rank), so that a resumed run has no state to restore."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)
