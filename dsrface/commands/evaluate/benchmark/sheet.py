"""A sheet of images: what a network saw of some faces, and the person it found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsrface.commands.evaluate.benchmark.features import Embedded, face_images, read_forms
from dsrface.commands.evaluate.images import Networks
from dsrface.commands.evaluate.result import BICUBIC, DSR, RAW
from dsrface.commands.shared.people.faces import sizes_taken
from dsrface.data.benchmarks.benchmark import Benchmark, GallerySearch
from dsrface.data.decode import ImageU8, encode_png
from dsrface.data.sheets import face_sheet
from dsrface.runtime.devices import Device
from dsrface.runtime.files import write_bytes
from dsrface.types import HIGH_SIZE_PX

_ROWS = 12


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
    if not len(asked):
        return
    chosen = asked[np.unique(np.linspace(0, len(asked) - 1, _ROWS).astype(int))].tolist()
    shown = [_forms(benchmark, place, networks, vlr_size, device) for place in chosen]
    rows: list[list[ImageU8 | None]] = [list(forms.values()) for forms in shown]
    titles = list(shown[0])
    if search is not None:
        found = _found(benchmark, search, embedded, chosen)
        rows = [[*row, *own] for row, own in zip(rows, found, strict=True)]
        titles += ["best match", "right person"]
    names = [Path(benchmark.faces[place].name).name for place in chosen]
    write_bytes(path, encode_png(face_sheet(rows, titles, names), level=6))


def _forms(
    benchmark: Benchmark, place: int, networks: Networks, vlr_size: int, device: Device
) -> dict[str, ImageU8]:
    """Return a face in its forms, by title."""
    face = benchmark.faces[place]
    read = read_forms(face, benchmark, sizes=sizes_taken(networks.dsr), vlr_size=vlr_size)
    made = {title: images[0].cpu().numpy() for title, images in face_images([read], networks, device).items()}
    return ({} if read.small is None else {"seen": read.small}) | made


def _found(
    benchmark: Benchmark, search: GallerySearch, embedded: Embedded, places: list[int]
) -> list[list[ImageU8 | None]]:
    """Return the best match of each probe and an image of the right person; None where there is none."""
    gallery = search.gallery[~np.isin(search.gallery, list(embedded.bad))]
    kind = DSR if any(key[0] == DSR for key in embedded.features) else BICUBIC
    role = next((role for _, role in embedded.features if role != RAW), RAW)
    features = embedded.rows(kind, role, benchmark.is_low)
    found: list[list[ImageU8 | None]] = []
    for place in places:
        best = int(gallery[int(np.argmax(features[gallery] @ features[place]))])
        person = benchmark.faces[place].person
        own = next((k for k in gallery.tolist() if benchmark.faces[k].person == person), None)
        found.append([None if k is None else benchmark.faces[k].read(HIGH_SIZE_PX) for k in (best, own)])
    return found
