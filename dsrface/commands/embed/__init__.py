"""`dsrface embed`: embeddings of a folder of 112x112 faces, for use in other programs."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.shared.early import may_be_skipped, of_another_size
from dsrface.commands.shared.people.faces import Face, FaceReader, load_networks, see
from dsrface.commands.shared.result import CommandResult
from dsrface.config.embed import EmbedConfig
from dsrface.data.decode import read_sized
from dsrface.data.photos.given import find_photos
from dsrface.errors import DataError, ImageError
from dsrface.events import Emit, Note, Progress
from dsrface.models.judge_files import judge_by_default
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.ahead import ahead
from dsrface.runtime.command_line import quoted
from dsrface.runtime.devices import choose_device
from dsrface.runtime.files import atomic_writer, remove_half_written
from dsrface.runtime.resources import effective_cores
from dsrface.types import HIGH_SIZE_PX

_AHEAD = 2  # batches that are read while one is embedded


@dataclass(frozen=True)
class EmbedResult(CommandResult):
    """What was written.

    Args:
        num_images: Rows of the file.
        dim: Length of an embedding.
        is_normalised: Whether each has length 1.
        weights_sha256: Of the recogniser's file.
        skipped: Images left out: name, reason and message.
    """

    num_images: int
    dim: int
    is_normalised: bool
    weights_sha256: str
    skipped: tuple[dict[str, str], ...] = ()


def run(config: EmbedConfig, *, emit: Emit) -> EmbedResult:
    """Embed every image and write `names` and `embeddings` to one file.

    Args:
        config: Complete configuration.
        emit: Takes notes and progress.

    Raises:
        DataError: no image, or one that cannot be used and `on_bad_image` is fail.
        WeightsError: the recogniser cannot be loaded.
    """
    root, names = find_photos(config.images)
    device = choose_device(config.device, amp=config.amp)
    emit(Note(f"device: {device.reason}"))
    loaded, dsr = load_networks(config.weights or judge_by_default(), config.dsr, device)
    reader = None if dsr is None else FaceReader(dsr, align="none")
    num_threads = effective_cores().effective if config.workers == "auto" else config.workers
    kept: list[str] = []
    skipped: list[dict[str, str]] = []
    parts: list[NDArray[np.float32]] = []
    for batch_names, results in _read(root, names, reader, config.batch_size, max(1, num_threads)):
        for name, result in zip(batch_names, results, strict=True):
            if isinstance(result, ImageError):
                skipped.append(_left_out(name, result, config.on_bad_image))
        if faces := [item for item in results if isinstance(item, Face)]:
            kept += [face.name for face in faces]
            seen = see(
                faces,
                loaded,
                dsr,
                batch_size=config.batch_size,
                device=device,
                is_normalised=config.normalize,
            )
            parts.append(seen.embeddings)
        emit(Progress("embedding", len(kept) + len(skipped), len(names)))
    if not parts:
        raise DataError(
            f"None of {len(names)} images can be used; the first: {skipped[0]['message']}",
            id="nothing-usable",
            where=root / skipped[0]["name"],
        )
    for item in skipped:
        emit(Note(f"skipped {item['name']}: {item['message']}", is_warning=True))
    embeddings = np.concatenate(parts)
    _write(config.out, kept, embeddings)
    return _result(config, loaded, embeddings, tuple(skipped))


def _read(
    root: Path, names: Sequence[str], reader: FaceReader | None, batch_size: int, num_threads: int
) -> Iterator[tuple[Sequence[str], list[Face | ImageError]]]:
    """Yield batches of names, and what was read; threads read the next ones meanwhile."""
    read = functools.partial(_face, root, reader)
    results = ahead(read, names, num_threads=num_threads, depth=_AHEAD * batch_size)
    for start in range(0, len(names), batch_size):
        batch = names[start : start + batch_size]
        yield batch, list(itertools.islice(results, len(batch)))


def _left_out(name: str, error: ImageError, on_bad_image: str) -> dict[str, str]:
    """Return what the result says of an image that cannot be used, or raise its error with what helps."""
    if on_bad_image == "fail":
        raise may_be_skipped(error)
    return {"name": name, "reason": error.id, "message": error.message}


def _face(root: Path, reader: FaceReader | None, name: str) -> Face | ImageError:
    try:
        if reader is not None:
            return reader.read(root / name, name)
        return Face(name, read_sized(root / name, HIGH_SIZE_PX), HIGH_SIZE_PX)
    except ImageError as error:
        if error.id != "wrong-size" or reader is not None:
            return error
        return of_another_size(error)


def _write(out: Path, names: Sequence[str], embeddings: NDArray[np.float32]) -> None:
    """Write a file that `np.load` opens without pickle: names are an array of fixed-width text."""
    shown = [name.encode("utf-8", "replace").decode("utf-8") for name in names]
    remove_half_written(out.parent, out.name)
    with atomic_writer(out) as handle:
        np.savez(handle, names=np.array(shown, dtype=np.str_), embeddings=embeddings)


def _result(
    config: EmbedConfig,
    loaded: LoadedModel,
    embeddings: NDArray[np.float32],
    skipped: tuple[dict[str, str], ...],
) -> EmbedResult:
    left_out = f", {len(skipped)} left out" if skipped else ""
    # Double quotes inside, so that the shell's single ones need no escape.
    place = json.dumps(str(config.out), ensure_ascii=False)
    code = f'import numpy; f = numpy.load({place}); print(f["names"][:3], f["embeddings"].shape)'
    length = "of length 1" if config.normalize else "as the network gave them"
    return EmbedResult(
        summary=f"{len(embeddings)} embeddings of {embeddings.shape[1]} numbers, {length}{left_out}.",
        location=str(config.out),
        next_command=f"python -c {quoted(code)}",
        num_images=len(embeddings),
        dim=int(embeddings.shape[1]),
        is_normalised=config.normalize,
        weights_sha256=loaded.sha256,
        skipped=skipped,
    )
