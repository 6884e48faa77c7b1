"""One pass over a split: image quality of every image, and its embedding by every recogniser."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dsrface.commands.evaluate.result import BICUBIC, DSR, HR, RAW
from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceSplit
from dsrface.data.loaders import make_loader
from dsrface.data.outputs.opening import open_outputs
from dsrface.data.samplers import in_order
from dsrface.engine.inference import embed, super_resolve
from dsrface.events import Emit, Note, Progress
from dsrface.metrics.image_quality import luma, psnr_db, ssim
from dsrface.models.loaded import LoadedModel
from dsrface.models.resize import resize_bicubic
from dsrface.runtime.devices import Device
from dsrface.types import HIGH_SIZE_PX, Batch, to_device

_RAW_SIZE_PX = 28
_QUALITY = ("psnr_db", "ssim", "psnr_y_db")  # fields of `Measured`
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Networks:
    """What is measured.

    Args:
        dsr: Super-resolution network; None without one.
        dsr_outputs: Folder of this split's outputs, instead of a network.
        recognisers: Role (`frozen`, `fine-tuned`, `judge`) to network.
        high_px: Side of the HR faces, and of what stands for them, in pixels.
    """

    dsr: LoadedModel | None
    dsr_outputs: Path | None
    recognisers: dict[str, LoadedModel]
    high_px: int = HIGH_SIZE_PX

    @property
    def kinds(self) -> tuple[str, ...]:
        """What stands for the VLR faces."""
        return (BICUBIC, DSR) if self.dsr is not None or self.dsr_outputs is not None else (BICUBIC,)


@dataclass(frozen=True)
class Measured:
    """Figures of every image, in the order of the split.

    Args:
        psnr_db: Kind of image to float64 [n].
        ssim: Kind of image to float64 [n].
        features: (Kind of image, recogniser) to float32 [n, d], rows of length 1.
        psnr_y_db: PSNR of the luma, kind of image to float64 [n].
    """

    psnr_db: dict[str, NDArray[np.float64]]
    ssim: dict[str, NDArray[np.float64]]
    features: dict[tuple[str, str], NDArray[np.float32]]
    psnr_y_db: dict[str, NDArray[np.float64]]

    @property
    def quality(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Figures of image quality: metric to kind of image to float64 [n]."""
        return {name: getattr(self, name) for name in _QUALITY}


def measure(
    split: FaceSplit,
    networks: Networks,
    *,
    vlr_size: int,
    batch_size: int,
    num_workers: int,
    device: Device,
    emit: Emit,
    flip: bool = False,
) -> Measured:
    """Read every image once and run every network on it.

    Images pass through 8 bits before they are measured, as everything that `precompute` stores does.

    Args:
        split: What to measure on.
        networks: With what.
        vlr_size: Side of the VLR faces, in pixels.
        batch_size: Images per forward pass.
        num_workers: Processes that read images.
        device: Where the networks are.
        emit: Receives progress.
        flip: Add the embedding of the mirrored face.
    """
    quality: dict[tuple[str, str], NDArray[np.float32]] = {}
    features: dict[tuple[str, str], NDArray[np.float32]] = {}
    num_done = 0
    with contextlib.closing(batches(split, networks, vlr_size, batch_size, num_workers, emit)) as source:
        for batch, outputs in source:
            rows = batch.indices.numpy()
            shown = _shown(batch, outputs, networks, device)
            fill_rows(quality, rows, _quality_of(shown), num_rows=len(split))
            if networks.recognisers:
                embedded = features_of(shown, networks.recognisers, device, flip=flip)
                fill_rows(features, rows, embedded, num_rows=len(split))
            num_done += len(batch)
            emit(Progress("measuring", num_done, len(split)))

    def table(metric: str) -> dict[str, NDArray[np.float64]]:
        return {kind: values.astype(np.float64) for (name, kind), values in quality.items() if name == metric}

    return Measured(table("psnr_db"), table("ssim"), features, table("psnr_y_db"))


def fill_rows(
    tables: dict[tuple[str, str], NDArray[np.float32]],
    rows: Sequence[int] | NDArray[np.int64],
    found: Iterable[tuple[tuple[str, str], Tensor]],
    *,
    num_rows: int,
) -> None:
    """Put what was found for some rows into their tables, which are made at their first rows.

    Args:
        tables: Key to float32 [num_rows, ...].
        rows: Where the values of a batch go.
        found: Key to values, [b, ...] in the order of `rows`.
        num_rows: Of a whole table.
    """
    for key, values in found:
        if key not in tables:
            tables[key] = np.zeros((num_rows, *values.shape[1:]), np.float32)
        tables[key][rows] = values.float().cpu().numpy()


def batches(
    split: FaceSplit,
    networks: Networks,
    vlr_size: int,
    batch_size: int,
    num_workers: int,
    emit: Emit,
) -> Generator[tuple[Batch, Tensor | None]]:
    """Yield batches of VLR and HR faces, and the stored DSR outputs of the same images when there are any.

    Args:
        split: What to read.
        networks: Says where stored outputs are.
        vlr_size: Side of the VLR faces, in pixels.
        batch_size: Images per batch.
        num_workers: Processes that read images.
        emit: Receives notes.
    """
    with contextlib.ExitStack() as stack:
        dataset = PairDataset(split, inputs=split.low_dir(vlr_size))
        low = stack.enter_context(
            make_loader(dataset, in_order(len(split), batch_size=batch_size), num_workers=num_workers)
        )
        if networks.dsr_outputs is None:
            for batch in low.epoch(0):
                yield batch, None
            return
        stored = stack.enter_context(
            contextlib.closing(
                open_outputs(
                    split,
                    networks.dsr_outputs,
                    sampler=in_order(len(split), batch_size=batch_size),
                    size_px=vlr_size,
                    num_workers=num_workers,
                    note=lambda text: emit(Note(text)),
                )
            )
        )
        for batch, outputs in zip(low.epoch(0), stored.epoch(0), strict=True):
            if not torch.equal(batch.indices, outputs.indices):
                raise RuntimeError("both loaders must give the same images")
            yield batch, outputs.inputs


def images_by_kind(
    low: UInt8[Tensor, "b s s 3"],
    outputs: UInt8[Tensor, "b h h 3"] | None,
    networks: Networks,
    device: Device,
) -> dict[str, UInt8[Tensor, "b h h 3"]]:
    """Return what stands for VLR faces: bicubic, and the DSR's or the stored outputs when there are any."""
    found = {BICUBIC: to_image_u8(resize_bicubic(to_image01(low), size_px=networks.high_px))}
    if outputs is not None:
        found[DSR] = outputs
    elif networks.dsr is not None:
        found[DSR] = super_resolve(networks.dsr.model, low, device=device)
    return found


def raw_pixels(image: Float[Tensor, "b 3 h h"]) -> Float[Tensor, "b 784"]:
    """Return grey faces of 28x28 px as vectors: the baseline that any recogniser must beat."""
    weights = torch.tensor(_GREY, device=image.device).view(1, 3, 1, 1)
    grey = (image * weights).sum(dim=1, keepdim=True)
    return functional.adaptive_avg_pool2d(grey, _RAW_SIZE_PX).flatten(1)


@torch.inference_mode()
def _shown(
    batch: Batch, outputs: Tensor | None, networks: Networks, device: Device
) -> dict[str, Float[Tensor, "b 3 h h"]]:
    """Return HR faces and all that stands for their VLR twins, by kind of image, as Image01 on the device."""
    high, low = (to_device(faces, device.torch_name) for faces in (batch.high, batch.inputs))
    stored = None if outputs is None else to_device(outputs, device.torch_name)
    made = images_by_kind(low, stored, networks, device)
    return {kind: to_image01(image) for kind, image in {HR: high, **made}.items()}


@torch.inference_mode()
def _quality_of(shown: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """Yield (metric, kind of image) and its value for each image, against HR."""
    high = shown[HR]
    high_luma = luma(high)
    for kind, image in shown.items():
        if kind != HR:
            yield ("psnr_db", kind), psnr_db(image, high)
            yield ("ssim", kind), ssim(image, high)
            yield ("psnr_y_db", kind), psnr_db(luma(image), high_luma)


@torch.inference_mode()
def features_of(
    shown: Mapping[str, Float[Tensor, "b 3 h h"]],
    recognisers: Mapping[str, LoadedModel],
    device: Device,
    *,
    flip: bool = False,
) -> Iterator[tuple[tuple[str, str], Float[Tensor, "b d"]]]:
    """Yield (kind of image, recogniser) and the embedding of each image, of length 1; raw pixels come first.

    Args:
        shown: Kind of image to Image01 on the device.
        recognisers: Role to network.
        device: Where they are.
        flip: Add the embedding of the mirrored face, as published figures often do.
    """
    for kind, image in shown.items():
        yield (kind, RAW), functional.normalize(raw_pixels(image), dim=1)
        for role, loaded in recognisers.items():
            embedded = _embed_flipped if flip else _embed
            yield (kind, role), embedded(loaded, image, device, is_high=kind == HR)


def _embed(loaded: LoadedModel, image: Tensor, device: Device, *, is_high: bool) -> Tensor:
    return embed(loaded.model, image, loaded.preprocess, device=device, is_high=is_high)


def _embed_flipped(loaded: LoadedModel, image: Tensor, device: Device, *, is_high: bool) -> Tensor:
    """Return the sum of the embeddings of a face and of its mirror image, brought to length 1."""
    both = [
        embed(loaded.model, view, loaded.preprocess, device=device, is_normalised=False, is_high=is_high)
        for view in (image, image.flip(-1))
    ]
    return functional.normalize(both[0] + both[1], dim=1)
