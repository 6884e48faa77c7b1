"""Images for the report: VLR, bicubic, DSR and HR side by side, chosen by rule and not by taste."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.evaluate.images import Measured, Networks, batches, images_by_kind
from dsrface.commands.evaluate.result import BICUBIC, DSR, HR
from dsrface.data.layout import FaceSplit
from dsrface.runtime.devices import Device

_EACH = 2


@dataclass(frozen=True)
class Strip:
    """One image in all its forms.

    Args:
        title: Why it was chosen: `worst`, `median` or `best`.
        name: Relative name of the image.
        images: Kind (`VLR`, `bicubic`, `DSR`, `HR`) to uint8 [H, W, 3].
        psnr_db: Kind to PSNR against HR.
    """

    title: str
    name: str
    images: dict[str, NDArray[np.uint8]]
    psnr_db: dict[str, float]


def choose_strips(
    split: FaceSplit, measured: Measured, networks: Networks, *, vlr_size: int, device: Device
) -> tuple[Strip, ...]:
    """Return the images of worst, median and best PSNR gain of DSR over bicubic.

    Without a DSR, by the PSNR of bicubic.
    """
    gain = measured.psnr_db[BICUBIC]
    if DSR in measured.psnr_db:
        gain = measured.psnr_db[DSR] - gain
    order = np.argsort(gain, kind="stable")
    middle = len(order) // 2
    places = {"worst": order[:_EACH], "median": order[middle : middle + _EACH], "best": order[::-1][:_EACH]}
    chosen: dict[int, str] = {}
    for title, indices in places.items():
        for index in indices:
            chosen.setdefault(int(index), title)
    shown = images_of(split, list(chosen), networks, vlr_size=vlr_size, device=device)
    return tuple(
        Strip(
            title,
            split.names[index],
            shown[index],
            {kind: float(values[index]) for kind, values in measured.psnr_db.items()},
        )
        for index, title in chosen.items()
    )


def images_of(
    split: FaceSplit, places: Sequence[int], networks: Networks, *, vlr_size: int, device: Device
) -> dict[int, dict[str, NDArray[np.uint8]]]:
    """Return faces in all their forms, by their place in the split and by kind; uint8 [H, W, 3] each."""
    few = split.subset(list(places))
    source = batches(few, networks, vlr_size, len(few), 0, lambda _: None)
    with contextlib.closing(source):
        batch, outputs = next(source)
        shown = {"VLR": batch.inputs.numpy().copy(), HR: batch.high.numpy().copy()}
        low = batch.inputs.to(device.torch_name)
        stored = None if outputs is None else outputs.to(device.torch_name)
        shown |= {
            kind: made.cpu().numpy() for kind, made in images_by_kind(low, stored, networks, device).items()
        }
        rows = np.argsort(batch.indices.numpy())
    return {
        place: {kind: images[row] for kind, images in shown.items()}
        for row, place in zip(rows, places, strict=True)
    }
