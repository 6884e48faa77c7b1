"""Each super-resolution network on each degradation and size: what one learned, does it show on another?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsrface.commands.evaluate.result import MatrixCell
from dsrface.data import draws
from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.decode import at_size, read_sized
from dsrface.data.degrade import KINDS, Degradation, degrade
from dsrface.data.layout import FaceSplit
from dsrface.engine.inference import super_resolve
from dsrface.events import Emit, Progress
from dsrface.metrics.bootstrap import draw_persons, estimate, mean_draws
from dsrface.metrics.image_quality import psnr_db
from dsrface.models.loaded import LoadedModel
from dsrface.models.resize import resize_bicubic
from dsrface.models.weights import load_dsr
from dsrface.runtime.devices import Device
from dsrface.types import VLR_SIZES_PX

_MAX_IMAGES = 300
_BATCH = 64


def measure_matrix(
    split: FaceSplit, sources: Sequence[Path], *, num_draws: int, seed: int, device: Device, emit: Emit
) -> tuple[MatrixCell, ...]:
    """Measure the PSNR gain over bicubic of every network on every degradation and VLR size.

    At most 300 images, spread evenly, are reduced again in each way. A network for another size gets them
    resized to its own.

    Args:
        split: Whose HR faces are reduced.
        sources: Run folders or files of the networks.
        num_draws: Bootstrap draws of persons.
        seed: Fixes degradations and draws.
        device: Where to run.
        emit: Takes progress.
    """
    networks = [load_dsr(source, high_size=split.high_px, device=device.torch_name) for source in sources]
    rows = np.unique(np.linspace(0, len(split) - 1, min(_MAX_IMAGES, len(split))).astype(int))
    high = np.stack([read_sized(split.high_dir / split.names[row], split.high_px) for row in rows.tolist()])
    persons = split.labels.numpy()[rows]
    counts = draw_persons(len(split.persons), num_draws=num_draws, seed=seed)
    num_persons = len(np.unique(persons))
    cells: list[MatrixCell] = []
    columns = [(kind, size) for kind in KINDS for size in VLR_SIZES_PX]
    for number, (kind, size_px) in enumerate(columns, start=1):
        settings = Degradation(kind, size_px, seed)
        low = np.stack(
            [
                degrade(image, settings, rng=draws.generator(seed, 0, int(row), f"matrix-{size_px}"))
                for image, row in zip(high, rows, strict=True)
            ]
        )
        bicubic = _psnr(low, high, None, device)
        for source, loaded in zip(sources, networks, strict=True):
            gain = _psnr(low, high, loaded, device) - bicubic
            drawn = mean_draws(gain, persons, counts)
            found = estimate(float(gain.mean()), drawn, num_persons=num_persons)
            cells.append(MatrixCell(str(source), _trained_on(loaded), kind, size_px, found))
        emit(Progress("matrix", number, len(columns)))
    return tuple(cells)


def _psnr(
    low: NDArray[np.uint8], high: NDArray[np.uint8], loaded: LoadedModel | None, device: Device
) -> NDArray[np.float64]:
    """Return the PSNR of every image, enlarged by a network or by bicubic."""
    found = []
    for start in range(0, len(low), _BATCH):
        part = low[start : start + _BATCH]
        wanted_px = loaded.vlr_size if loaded is not None else None
        if wanted_px is not None and wanted_px != part.shape[1]:
            part = np.stack([at_size(image, wanted_px) for image in part])
        pixels = torch.from_numpy(np.ascontiguousarray(part)).to(device.torch_name)
        if loaded is None:
            made = to_image_u8(resize_bicubic(to_image01(pixels), size_px=high.shape[1]))
        else:
            made = super_resolve(loaded.model, pixels, device=device)
        truth = to_image01(torch.from_numpy(high[start : start + _BATCH]).to(device.torch_name))
        found.append(psnr_db(to_image01(made), truth).cpu().numpy())
    return np.concatenate(found).astype(np.float64)


def _trained_on(loaded: LoadedModel) -> str:
    """Return the degradation and size that a network was trained for, as its file says."""
    stored = loaded.metadata.get("degradation")
    kind = str(json.loads(stored).get("kind")) if stored else "not recorded"
    return f"{kind}, {loaded.vlr_size} px" if loaded.vlr_size else kind
