"""A sheet of images: what a network saw of some faces, and the person it found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsrface.commands.evaluate.benchmark.features import Embedded, low_form
from dsrface.commands.evaluate.images import Networks, images_by_kind
from dsrface.commands.evaluate.result import BICUBIC, DSR, RAW
from dsrface.data.benchmarks.benchmark import Benchmark, reader_size
from dsrface.data.decode import ImageU8, encode_png
from dsrface.runtime.devices import Device
from dsrface.runtime.files import write_bytes
from dsrface.types import HIGH_SIZE_PX

_ROWS = 12
_GAP_PX = 4


def write_sheet(
    path: Path,
    benchmark: Benchmark,
    embedded: Embedded,
    networks: Networks,
    *,
    vlr_size: int,
    device: Device,
) -> None:
    """Write a row for each of some faces, spread evenly.

    A row of a search holds the probe with its pixels as squares, bicubic, the DSR's when there is one, the
    best match of the last of these, and the right person's image; without a search, the face in its forms.
    """
    search = benchmark.searches[0] if benchmark.searches else None
    asked = np.arange(len(benchmark.faces)) if search is None else search.probes
    asked = asked[~np.isin(asked, list(embedded.bad))]
    chosen = (
        asked[np.unique(np.linspace(0, len(asked) - 1, _ROWS).astype(int))].tolist() if len(asked) else []
    )
    rows = [_forms(benchmark, place, networks, vlr_size, device) for place in chosen]
    if search is not None:
        gallery = search.gallery[~np.isin(search.gallery, list(embedded.bad))]
        kind = DSR if any(key[0] == DSR for key in embedded.features) else BICUBIC
        role = next((role for _, role in embedded.features if role != RAW), RAW)
        features = embedded.rows(kind, role, benchmark.is_low)
        for row, place in zip(rows, chosen, strict=True):
            best = gallery[int(np.argmax(features[gallery] @ features[place]))]
            person = benchmark.faces[place].person
            own = [k for k in gallery.tolist() if benchmark.faces[k].person == person]
            row += [_image(benchmark, int(k), vlr_size) for k in [best, *own[:1]]]
    if rows:
        write_bytes(path, encode_png(_sheet(rows), level=6))


def _forms(
    benchmark: Benchmark, place: int, networks: Networks, vlr_size: int, device: Device
) -> list[ImageU8]:
    face = _image(benchmark, place, vlr_size)
    low = face if benchmark.faces[place].is_low else low_form(face, vlr_size)
    made = images_by_kind(torch.from_numpy(low[None]).to(device.torch_name), None, networks, device)
    shown = [low, *(image[0].cpu().numpy() for image in made.values())]
    return shown if benchmark.faces[place].is_low else [*shown, face]


def _image(benchmark: Benchmark, place: int, vlr_size: int) -> ImageU8:
    face = benchmark.faces[place]
    return face.read(reader_size(face, vlr_size))


def _sheet(rows: list[list[ImageU8]]) -> NDArray[np.uint8]:
    step = HIGH_SIZE_PX + _GAP_PX
    width = max(map(len, rows)) * step + _GAP_PX
    sheet = np.full((len(rows) * step + _GAP_PX, width, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            top, left = _GAP_PX + number * step, _GAP_PX + column * step
            nearest = (np.arange(HIGH_SIZE_PX) * image.shape[0]) // HIGH_SIZE_PX
            sheet[top : top + HIGH_SIZE_PX, left : left + HIGH_SIZE_PX] = image[nearest][:, nearest]
    return sheet
