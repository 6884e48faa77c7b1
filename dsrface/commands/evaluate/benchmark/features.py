"""Every face of a benchmark, read once and embedded in every form that it has."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsrface.commands.evaluate.images import Networks, features_of, fill_rows, images_by_kind
from dsrface.commands.evaluate.result import BICUBIC, DSR, HR
from dsrface.commands.shared.people.faces import sizes_taken
from dsrface.data import draws
from dsrface.data.augment import to_image01
from dsrface.data.benchmarks.benchmark import Benchmark, Face
from dsrface.data.decode import ImageU8
from dsrface.data.degrade import Degradation, degrade
from dsrface.engine.inference import super_resolve_mixed
from dsrface.errors import DataError
from dsrface.events import Emit, Progress
from dsrface.runtime.ahead import ahead
from dsrface.runtime.devices import Device
from dsrface.runtime.resources import effective_cores
from dsrface.types import HIGH_SIZE_PX, to_device

_AHEAD = 2  # batches that are read while one is embedded


@dataclass(frozen=True)
class Forms:
    """A face that was read.

    Args:
        whole: uint8 [112, 112, 3]; a native face enlarged by bicubic.
        small: uint8 [S, S, 3]: a native face at the size nearest to its own that the DSR takes, or an HR face
            reduced; None for an HR face that is not.
        is_low: A native low-resolution face.
    """

    whole: ImageU8
    small: ImageU8 | None
    is_low: bool


@dataclass(frozen=True)
class Embedded:
    """Embeddings of all faces.

    Args:
        features: (Kind of image, recogniser) to float32 [n, d], rows of length 1; zeros where a face has no
            such form (a native face has no HR form, an HR gallery face no low-resolution one).
        bad: Position of each face that could not be used, to the reason; its rows are zeros.
        native_px: Side that native faces were brought to for the DSR, to how many; at 112 px it is not used.
    """

    features: dict[tuple[str, str], NDArray[np.float32]]
    bad: dict[int, str]
    native_px: dict[int, int]

    def rows(self, kind: str, recogniser: str, is_low: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return native faces as a kind of image and the others as HR."""
        own = self.features[kind, recogniser]
        high = self.features.get((HR, recogniser))
        return own if high is None else np.where(is_low[:, None], own, high)


def embed_faces(
    benchmark: Benchmark,
    networks: Networks,
    *,
    vlr_size: int,
    flip: bool,
    batch_size: int,
    device: Device,
    emit: Emit,
) -> Embedded:
    """Embed every face.

    Args:
        benchmark: Which faces; those of one with twins are reduced with one bicubic kernel.
        networks: With what.
        vlr_size: Side of the low-resolution faces, in pixels.
        flip: Add the embedding of the mirrored face, as published figures often do.
        batch_size: Faces a forward pass.
        device: Where the networks are.
        emit: Receives progress.
    """
    faces = benchmark.faces
    sizes = sizes_taken(networks.dsr)

    def read(face: Face) -> Forms | DataError:
        try:
            return read_forms(face, benchmark, sizes=sizes, vlr_size=vlr_size)
        except DataError as error:
            return error

    collected: dict[tuple[str, str], NDArray[np.float32]] = {}
    bad: dict[int, str] = {}
    given: Counter[int] = Counter()
    batches = _batches(benchmark.is_low, batch_size)
    every = (faces[row] for batch in batches for row in batch)
    results = ahead(read, every, num_threads=effective_cores().effective, depth=_AHEAD * batch_size)
    num_done = 0
    for batch in batches:
        found = dict(zip(batch, itertools.islice(results, len(batch)), strict=True))
        bad |= {row: item.message for row, item in found.items() if isinstance(item, DataError)}
        good = {row: item for row, item in found.items() if isinstance(item, Forms)}
        if good:
            images = face_images(list(good.values()), networks, device)
            shown = {kind: to_image01(image) for kind, image in images.items()}
            embedded = features_of(shown, networks.recognisers, device, flip=flip)
            fill_rows(collected, list(good), embedded, num_rows=len(faces))
        given.update(item.small.shape[0] for item in good.values() if item.is_low and item.small is not None)
        num_done += len(batch)
        emit(Progress("embedding", num_done, len(faces)))
    return Embedded(collected, bad, dict(sorted(given.items())))


def read_forms(face: Face, benchmark: Benchmark, *, sizes: Sequence[int], vlr_size: int) -> Forms:
    """Read a face in its forms.

    Args:
        face: Of the benchmark.
        benchmark: Says whether HR faces are reduced.
        sizes: Sides that a native face may be brought to.
        vlr_size: Side that an HR face is reduced to, by one bicubic kernel.

    Raises:
        DataError: the image or its landmarks cannot be used.
    """
    if face.is_low:
        return Forms(*face.read_native(sizes), is_low=True)
    whole = face.read(HIGH_SIZE_PX)
    if not benchmark.has_twins:
        return Forms(whole, None, is_low=False)
    rng = draws.generator(0, 0, 0, "benchmark")
    return Forms(whole, degrade(whole, Degradation("classic", vlr_size), rng=rng), is_low=False)


def _batches(is_low: NDArray[np.bool_], size: int) -> list[list[int]]:
    """Return the positions of HR faces and then of native ones, cut into batches of one kind."""
    groups = [np.flatnonzero(is_low == kind).tolist() for kind in (False, True)]
    return [rows[start : start + size] for rows in groups for start in range(0, len(rows), size)]


def face_images(forms: Sequence[Forms], networks: Networks, device: Device) -> dict[str, Tensor]:
    """Return what stands for faces by kind of image, uint8 [b, 112, 112, 3] on the device.

    All are native faces, or all are HR faces.
    """
    whole = to_device(torch.from_numpy(np.stack([item.whole for item in forms])), device.torch_name)
    small = [item.small for item in forms if item.small is not None]
    shown = {BICUBIC if forms[0].is_low else HR: whole}
    if small and not forms[0].is_low:
        low = to_device(torch.from_numpy(np.stack(small)), device.torch_name)
        shown |= images_by_kind(low, None, networks, device)
    elif small and networks.dsr is not None:
        shown[DSR] = super_resolve_mixed(networks.dsr.model, small, device=device)
    return shown
