"""One pass over a split: image quality of every image, and its embedding by every recogniser."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
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
        psnr_y_db: PSNR of the luma, kind of image to float64 [n].
        features: (Kind of image, recogniser) to float32 [n, d], rows of length 1.
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
    """
    collected: dict[tuple[str, ...], NDArray[np.generic]] = {}
    num_done = 0
    with contextlib.closing(batches(split, networks, vlr_size, batch_size, num_workers, emit)) as source:
        for batch, outputs in source:
            rows = batch.indices.numpy()
            for key, values in _measure_batch(batch, outputs, networks, device):
                if key not in collected:
                    collected[key] = np.zeros((len(split), *values.shape[1:]), np.float32)
                collected[key][rows] = values.float().cpu().numpy()
            num_done += len(batch)
            emit(Progress("measuring", num_done, len(split)))
    tables = {
        name: {key[1]: values.astype(np.float64) for key, values in collected.items() if key[0] == name}
        for name in _QUALITY
    }
    features = {(key[1], key[2]): values for key, values in collected.items() if key[0] == "features"}
    return Measured(**tables, features=features)  # type: ignore[arg-type]


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
def _measure_batch(
    batch: Batch, outputs: Tensor | None, networks: Networks, device: Device
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    name = device.torch_name
    high = to_image01(to_device(batch.high, name))
    stored = None if outputs is None else to_device(outputs, name)
    high_luma = luma(high)
    shown = {HR: high}
    for kind, image in images_by_kind(to_device(batch.inputs, name), stored, networks, device).items():
        shown[kind] = to_image01(image)
        yield ("psnr_db", kind), psnr_db(shown[kind], high)
        yield ("ssim", kind), ssim(shown[kind], high)
        yield ("psnr_y_db", kind), psnr_db(luma(shown[kind]), high_luma)
    if not networks.recognisers:
        return
    for kind, image in shown.items():
        yield ("features", kind, RAW), functional.normalize(raw_pixels(image), dim=1)
        for role, loaded in networks.recognisers.items():
            features = embed(loaded.model, image, loaded.preprocess, device=device, is_high=kind == HR)
            yield ("features", kind, role), features
