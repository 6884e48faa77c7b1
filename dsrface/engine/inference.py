"""Networks over many images: in batches, without gradients, in the device's number format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.datasets import PairDataset
from dsrface.data.loaders import make_loader
from dsrface.data.native import NativeDataset
from dsrface.data.samplers import in_order
from dsrface.models.adapters import high_path
from dsrface.models.preprocess import network_input
from dsrface.runtime.devices import Device, autocast
from dsrface.types import HIGH_SIZE_PX, Batch, Preprocess, to_device

_READ_AT_ONCE = 64


@dataclass(frozen=True)
class Images:
    """A small set of pairs held in memory, for validations.

    Args:
        inputs: uint8 [N, S, S, 3].
        high: uint8 [N, 112, 112, 3].
        labels: int64 [N].
        indices: int64 [N], positions in the split.
    """

    inputs: Tensor
    high: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])


def gather(batches: Iterable[Batch]) -> Images:
    """Read all batches into memory, ordered by index."""
    parts = [
        (
            batch.inputs.cpu().clone(),
            batch.high.cpu().clone(),
            batch.labels.cpu().clone(),
            batch.indices.cpu().clone(),
        )
        for batch in batches
    ]
    inputs, high, labels, indices = (torch.cat(column) for column in zip(*parts, strict=True))
    order = torch.argsort(indices)
    return Images(inputs[order], high[order], labels[order], indices[order])


def read_all(dataset: PairDataset | NativeDataset) -> Images:
    """Read a data set into memory, without workers."""
    with make_loader(dataset, in_order(len(dataset), batch_size=_READ_AT_ONCE), num_workers=0) as loader:
        return gather(loader.epoch(0))


def run_batched(
    function: Callable[[Tensor], Tensor], images: UInt8[Tensor, "n h w 3"], *, batch_size: int, device: Device
) -> Tensor:
    """Apply `function` to uint8 images in batches on the device; return the results joined, on the CPU.

    Runs under inference_mode and autocast.

    Args:
        function: Takes uint8 [B, S, S, 3] on the device.
        images: On the CPU.
        batch_size: Images a call.
        device: Where to run.
    """
    results = []
    with torch.inference_mode(), autocast(device):
        for start in range(0, len(images), batch_size):
            batch = to_device(images[start : start + batch_size], device.torch_name)
            results.append(function(batch).cpu())
    return torch.cat(results)


def super_resolve(
    model: nn.Module | Callable[[Tensor], Tensor], low: UInt8[Tensor, "b s s 3"], *, device: Device
) -> UInt8[Tensor, "b 112 112 3"]:
    """Return what a DSR makes of a batch, as the uint8 images that `dsrface precompute` would store."""
    with torch.inference_mode(), autocast(device):
        return to_image_u8(model(to_image01(low)))


def super_resolve_mixed(
    model: nn.Module | Callable[[Tensor], Tensor],
    faces: Sequence[UInt8[np.ndarray, "s s 3"]],
    *,
    device: Device,
    batch_size: int = 64,
) -> UInt8[Tensor, "b 112 112 3"]:
    """Return what a DSR makes of faces of several sizes; those of 112 px are left as they are.

    Args:
        model: On the device.
        faces: Of any sizes that it takes.
        device: Where it is; the result is there as well.
        batch_size: Images per forward pass.
    """
    made = torch.empty(
        (len(faces), HIGH_SIZE_PX, HIGH_SIZE_PX, 3), dtype=torch.uint8, device=device.torch_name
    )
    for size_px in {face.shape[0] for face in faces}:
        rows = [row for row, face in enumerate(faces) if face.shape[0] == size_px]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            given = to_device(torch.from_numpy(np.stack([faces[row] for row in batch])), device.torch_name)
            made[batch] = given if size_px == HIGH_SIZE_PX else super_resolve(model, given, device=device)
    return made


def embed(
    recogniser: nn.Module,
    images: Float[Tensor, "b 3 h w"],
    preprocess: Preprocess,
    *,
    device: Device,
    is_normalised: bool = True,
    is_high: bool = False,
) -> Float[Tensor, "b d"]:
    """Return the embeddings of faces.

    Args:
        recogniser: On the device.
        images: Image01, on the device.
        preprocess: How the recogniser wants its images.
        device: For its number format.
        is_normalised: Give each length 1.
        is_high: They are HR faces: adapters for small faces are left out.

    Returns:
        float32, on the device.
    """
    with torch.inference_mode():
        with autocast(device), high_path(recogniser, is_high=is_high):
            embeddings: Tensor = recogniser(network_input(images, preprocess))
        embeddings = embeddings.float()
        return nn.functional.normalize(embeddings, dim=1) if is_normalised else embeddings
