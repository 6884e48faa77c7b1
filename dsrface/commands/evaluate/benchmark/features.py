"""Every face of a benchmark, read once and embedded in every form that it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dsrface.commands.evaluate.images import Networks, images_by_kind, raw_pixels
from dsrface.commands.evaluate.result import HR, RAW
from dsrface.data import draws
from dsrface.data.augment import to_image01
from dsrface.data.benchmarks.benchmark import Benchmark, Face, reader_size
from dsrface.data.decode import ImageU8
from dsrface.data.degrade import Degradation, degrade
from dsrface.engine.inference import embed
from dsrface.errors import DataError
from dsrface.events import Emit, Progress
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.devices import Device
from dsrface.runtime.resources import effective_cores
from dsrface.types import to_device

_AHEAD = 2  # batches that are read while one is embedded


@dataclass(frozen=True)
class Embedded:
    """Embeddings of all faces.

    Args:
        features: (Kind of image, recogniser) to float32 [n, d], rows of length 1; zeros where a face has no
            such form (a native face has no HR form, an HR gallery face no low-resolution one).
        bad: Position of each face that could not be used, to the reason; its rows are zeros.
    """

    features: dict[tuple[str, str], NDArray[np.float32]]
    bad: dict[int, str]

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
    collected: dict[tuple[str, str], NDArray[np.float32]] = {}
    bad: dict[int, str] = {}
    groups = [np.flatnonzero(benchmark.is_low == is_low).tolist() for is_low in (False, True)]
    num_done = 0
    for rows in groups:
        for batch, images in _read(faces, rows, vlr_size, batch_size):
            good = [k for k, image in enumerate(images) if not isinstance(image, DataError)]
            bad |= {
                batch[k]: str(image.message) for k, image in enumerate(images) if isinstance(image, DataError)
            }
            if good:
                stack = np.stack([image for image in images if not isinstance(image, DataError)])
                high = None if faces[batch[0]].is_low else stack
                low = stack if high is None else None
                if high is not None and benchmark.has_twins:
                    low = np.stack([low_form(image, vlr_size) for image in high])
                shown = _forms(low, high, networks, device)
                for key, values in _embeddings(shown, networks, device, flip=flip):
                    if key not in collected:
                        collected[key] = np.zeros((len(faces), values.shape[1]), np.float32)
                    collected[key][[batch[k] for k in good]] = values.float().cpu().numpy()
            num_done += len(batch)
            emit(Progress("embedding", num_done, len(faces)))
    return Embedded(collected, bad)


def low_form(high: ImageU8, vlr_size: int) -> ImageU8:
    """Return an HR face reduced by one bicubic kernel, uint8 [vlr_size, vlr_size, 3]."""
    return degrade(high, Degradation("classic", vlr_size), rng=draws.generator(0, 0, 0, "benchmark"))


def _read(
    faces: Sequence[Face], rows: Sequence[int], vlr_size: int, batch_size: int
) -> Iterator[tuple[list[int], list[ImageU8 | DataError]]]:
    """Yield batches in order; threads decode the next ones meanwhile, as decoding leaves Python's lock."""
    batches = [list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]

    def read(row: int) -> ImageU8 | DataError:
        try:
            return faces[row].read(reader_size(faces[row], vlr_size))
        except DataError as error:
            return error

    with ThreadPoolExecutor(effective_cores().effective) as pool:
        waiting = [[pool.submit(read, row) for row in batch] for batch in batches[:_AHEAD]]
        for number, batch in enumerate(batches):
            if number + _AHEAD < len(batches):
                waiting.append([pool.submit(read, row) for row in batches[number + _AHEAD]])
            yield batch, [future.result() for future in waiting.pop(0)]


def _forms(
    low: NDArray[np.uint8] | None, high: NDArray[np.uint8] | None, networks: Networks, device: Device
) -> dict[str, Tensor]:
    """Return what stands for each face by kind of image, uint8 [b, 112, 112, 3] on the device."""
    shown: dict[str, Tensor] = {}
    if high is not None:
        shown[HR] = to_device(torch.from_numpy(high), device.torch_name)
    if low is not None:
        shown |= images_by_kind(to_device(torch.from_numpy(low), device.torch_name), None, networks, device)
    return shown


@torch.inference_mode()
def _embeddings(
    shown: dict[str, Tensor], networks: Networks, device: Device, *, flip: bool
) -> Iterator[tuple[tuple[str, str], Tensor]]:
    for kind, images in shown.items():
        image = to_image01(images)
        yield (kind, RAW), functional.normalize(raw_pixels(image), dim=1)
        for role, loaded in networks.recognisers.items():
            embedded = embed_flipped if flip else _plain
            yield (kind, role), embedded(loaded, image, device, is_high=kind == HR)


def _plain(loaded: LoadedModel, image: Tensor, device: Device, *, is_high: bool) -> Tensor:
    return embed(loaded.model, image, loaded.preprocess, device=device, is_high=is_high)


def embed_flipped(loaded: LoadedModel, image: Tensor, device: Device, *, is_high: bool = False) -> Tensor:
    """Return the sum of the embeddings of a face and of its mirror image, brought to length 1."""
    both = [
        embed(loaded.model, view, loaded.preprocess, device=device, is_normalised=False, is_high=is_high)
        for view in (image, image.flip(-1))
    ]
    return functional.normalize(both[0] + both[1], dim=1)
