"""The public functions of the package; `import dsrface` offers them, and loads torch at their first use.

Paths are texts or `Path`s. Images are uint8 arrays [N, height, width, 3], RGB, in 0..255. Everything raises a
`DsrfaceError` with a stable `id` when it cannot do what was asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dsrface.commands.evaluate import run as run_evaluate
from dsrface.commands.evaluate.benchmark import BenchmarkResult
from dsrface.commands.evaluate.result import EvaluateResult
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.sources import resolve
from dsrface.data import layout
from dsrface.data.augment import to_image01
from dsrface.data.cache.reader import PackedReader
from dsrface.data.layout import FaceData
from dsrface.data.loaders import Loader
from dsrface.data.outputs import opening as stored
from dsrface.data.samplers import BatchSampler, EpochOrder
from dsrface.doctor import objects
from dsrface.doctor.report import Report
from dsrface.engine import inference
from dsrface.errors import DsrfaceError, UsageError
from dsrface.events import Event
from dsrface.models import weights
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.devices import Device, choose_device
from dsrface.types import HIGH_SIZE_PX, Batch, Preprocess

__all__ = [
    "Batch",
    "DsrfaceError",
    "LoadedModel",
    "Preprocess",
    "Report",
    "assert_workers_safe",
    "embed",
    "evaluate",
    "examine",
    "load_dsr",
    "load_recogniser",
    "open_data",
    "open_outputs",
    "super_resolve",
]

Source = str | os.PathLike[str]
Images = NDArray[np.uint8]


def load_dsr(source: Source, *, vlr_size: int | None = None, device: str = "cpu") -> LoadedModel:
    """Load a super-resolution network, completely or not at all.

    Args:
        source: Run folder of `dsrface train-dsr`, weight file, or name of a network of others.
        vlr_size: Side of the images that it must take, in pixels; None takes any.
        device: Where it goes, such as `"cuda"`.

    Raises:
        WeightsError: missing, damaged, or not a DSR.
        UsageError: it takes images of another size, or an unknown device.
        MachineError: no such device here.

    Example:
        >>> dsr = dsrface.load_dsr("dsr.safetensors", vlr_size=16)
        >>> dsr.kind, dsr.preprocess.size_px
        ('dsr', 16)
    """
    return weights.load_dsr(Path(source), vlr_size=vlr_size, device=_torch_name(device))


def load_recogniser(source: Source, *, device: str = "cpu") -> LoadedModel:
    """Load a recogniser, completely or not at all.

    Args:
        source: Run folder of `dsrface finetune`, weight file, checkpoint of a known architecture, or name.
        device: Where it goes, such as `"cuda"`.

    Raises:
        WeightsError: missing, damaged, or no recogniser.
        UsageError: an unknown device.
        MachineError: no such device here.

    Example:
        >>> recogniser = dsrface.load_recogniser("recogniser.safetensors")
        >>> recogniser.name
        'edgeface_xxs'
    """
    return weights.load_recogniser(Path(source), device=_torch_name(device))


def super_resolve(dsr: LoadedModel, images: Images, *, batch_size: int = 64) -> Images:
    """Return faces of 112x112, the very bytes that `dsrface precompute` stores in fp32.

    Args:
        dsr: From `load_dsr`.
        images: uint8 [N, S, S, 3], S being the size that the network was trained for.
        batch_size: Images per forward pass.

    Returns:
        uint8 [N, 112, 112, 3].

    Raises:
        UsageError: another type or shape, or a network of another kind.

    Example:
        >>> low = numpy.zeros((2, 16, 16, 3), numpy.uint8)
        >>> dsrface.super_resolve(dsrface.load_dsr("dsr.safetensors"), low).shape
        (2, 112, 112, 3)
    """
    pixels = _checked(dsr, "dsr", images)
    device = _device_of(dsr)
    found = inference.run_batched(
        lambda batch: inference.super_resolve(dsr.model, batch, device=device),
        pixels,
        batch_size=batch_size,
        device=device,
    )
    faces: Images = found.numpy()
    return faces


def embed(
    recogniser: LoadedModel, faces: Images, *, batch_size: int = 64, is_high: bool = False
) -> NDArray[np.float32]:
    """Return the embeddings of aligned faces, each of length 1: their dot product is the cosine.

    Args:
        recogniser: From `load_recogniser`.
        faces: uint8 [N, 112, 112, 3].
        batch_size: Faces a forward pass.
        is_high: They are HR faces: adapters for small faces, if there are any, are left out.

    Returns:
        float32 [N, D]; D is 512 for every recogniser that is trained here.

    Raises:
        UsageError: another type or shape, or a network of another kind.

    Example:
        >>> faces = numpy.zeros((2, 112, 112, 3), numpy.uint8)
        >>> dsrface.embed(dsrface.load_recogniser("recogniser.safetensors"), faces).shape
        (2, 512)
    """
    pixels = _checked(recogniser, "recogniser", faces)
    device = _device_of(recogniser)
    found = inference.run_batched(
        lambda batch: inference.embed(
            recogniser.model, to_image01(batch), recogniser.preprocess, device=device, is_high=is_high
        ),
        pixels,
        batch_size=batch_size,
        device=device,
    )
    embeddings: NDArray[np.float32] = found.numpy()
    return embeddings


def open_data(data: Source) -> FaceData:
    """Return the splits of a data set that `dsrface prepare` made, or of flat folders.

    Args:
        data: Its folder.

    Raises:
        DataError: no folder, no images, or a damaged or newer `dataset.json`.

    Example:
        >>> data = dsrface.open_data("data")
        >>> {name: len(split) for name, split in data.splits.items()}
        {'train': 8, 'val': 4, 'test': 4}
    """
    return layout.open_data(Path(data))


def open_outputs(
    data: FaceData,
    outputs: Source,
    *,
    vlr_size: int,
    split: Literal["train", "val", "test"] = "train",
    batch_size: int = 64,
    shuffle: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> Loader | PackedReader:
    """Return batches of (DSR output, HR twin, person) from what `dsrface precompute` stored.

    Args:
        data: From `open_data`.
        outputs: Folder of the outputs of this split.
        vlr_size: Side of the images that they were made from, in pixels.
        split: Which split.
        batch_size: Images per batch; with `shuffle` the last, incomplete one is left out.
        shuffle: Another order in every epoch, a function of `seed` and the epoch.
        seed: Of the order.
        device: Where the batches are used.

    Returns:
        An object with `len()`, the batches an epoch, and `epoch(number)`, which yields each `Batch`; a batch
        is valid until the next is asked for.

    Raises:
        RunError: no outputs, unfinished, stale or damaged.
        DataError, UsageError: they belong to other images.
    """
    part = data.split(split)
    order = EpochOrder(len(part), seed, shuffle=shuffle)
    sampler = BatchSampler(order, batch_size=batch_size, drop_last=shuffle)
    return stored.open_outputs(part, Path(outputs), sampler=sampler, size_px=vlr_size, device=device)


def evaluate(
    data: Source, *, vlr_size: int, emit: Callable[[Event], None] = lambda _: None, **keys: object
) -> EvaluateResult | BenchmarkResult:
    """Measure whether super-resolution and fine-tuning help, as `dsrface evaluate` does.

    Args:
        data: Data set folder.
        vlr_size: Side of the low-resolution faces, in pixels.
        emit: Takes notes and progress; `print` will do.
        keys: Any other key that `dsrface config show evaluate` lists, such as `dsr`, `finetuned` or `out`.

    Returns:
        `summary` is the answer in a sentence, `location` the HTML report, `evaluation` every figure;
        native faces and benchmarks give a `BenchmarkResult` instead.

    Raises:
        UsageError: an unknown key or a wrong value.
        DsrfaceError: whatever the command would end with.

    Example:
        >>> done = dsrface.evaluate("data", vlr_size=16, dsr="dsr.safetensors", out="report", bootstrap=0)
        >>> [item.images for item in done.evaluation.quality]
        ['bicubic', 'DSR']
    """
    flags = {"data": os.fspath(data), "vlr_size": vlr_size, **keys}
    return run_evaluate(resolve(EvaluateConfig, flags=flags).config, emit=emit)


def _device_of(loaded: LoadedModel) -> Device:
    tensor = next(loaded.model.parameters(), None)
    return choose_device("cpu" if tensor is None else str(tensor.device), amp="fp32")


def _torch_name(device: str) -> str:
    return choose_device(device, amp="fp32").torch_name


def _checked(loaded: object, kind: str, images: Images) -> torch.Tensor:
    """Return images as a tensor; refuse a network of another kind, and images that it would misread.

    Raises:
        UsageError: with the value and what is wanted.
    """
    if not isinstance(loaded, LoadedModel):
        loader = "load_dsr" if kind == "dsr" else "load_recogniser"
        raise UsageError(f"A loaded network is wanted, not {loaded!r}.", hint=f"dsrface.{loader} gives one.")
    if loaded.kind != kind:
        raise UsageError(f"This is a {loaded.kind}, where a {kind} is wanted.", where=loaded.path)
    shape = list(np.shape(images))
    is_batch = len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2] and shape[0] > 0
    if getattr(images, "dtype", None) != np.uint8 or not is_batch:
        found = f"{getattr(images, 'dtype', type(images).__name__)} {shape}"
        raise UsageError(f"Images must be a uint8 array [N, S, S, 3], not {found}.")
    size_px = loaded.vlr_size if kind == "dsr" else HIGH_SIZE_PX
    if size_px not in (None, shape[1]):
        message = f"The network takes images of {size_px} px, not of {shape[1]} px."
        raise UsageError(message, id="wrong-vlr-size")
    # torch takes no negative strides, as `image[..., ::-1]` has them, and warns of arrays that are read-only.
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def examine(value: Any, **settings: Any) -> Report:
    """Examine what DataLoader workers will do to an object, without a script.

    Its members, its items and real workers are looked at as `dsrface doctor` does, on Linux in a fork of this
    process. The report prints as text, and a notebook shows it.

    Args:
        value: A DataLoader (its sampler, batch sampler and options count), a Dataset or a pair of one and a
            dict of options, a data module of Lightning, a data set or a Trainer of Hugging Face.
        settings: Keys of the doctor's configuration, such as `batch_size`, `start_method`, `workers`,
            `budget_s`, `step_ms` and `only`.

    Raises:
        UsageError: it is nothing of that kind.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> report = dsrface.examine(DataLoader(range(1000), batch_size=50), budget_s=8)
        >>> report.exit_code, report.recommendation["num_workers"]
        (0, 0)
    """
    return objects.examine_object(value, settings)


def assert_workers_safe(value: Any, **settings: Any) -> None:
    """Fail a test when workers are not safe for an object.

    Args:
        value: As of `examine`.
        settings: As of `examine`; `start_method="all"` asks for every platform, `strict=True` for warnings.

    Raises:
        AssertionError: a check failed; its text is the report.
        UsageError: it is nothing of that kind.

    Example:
        >>> dsrface.assert_workers_safe(range(1000), start_method="spawn", probe=False)
    """
    report = objects.examine_object(value, settings)
    if report.verdict == "fail":
        raise AssertionError(str(report))
