"""`dsrface bench finetune`: one training step fed in three ways, and when precomputing pays.

The data set that runs a DSR on one image at a time in `__getitem__` lives here and nowhere else: it is the
habit that dsrface replaces, kept to be measured.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dsrface.commands.bench.loader import endless
from dsrface.commands.bench.measure import Row, interleave, rate, row
from dsrface.commands.bench.precompute import dsr_for_bench
from dsrface.commands.bench.synthetic import make_data
from dsrface.config.bench import BenchConfig
from dsrface.config.catalogue import RECOGNISER_INPUT
from dsrface.data.augment import to_image01
from dsrface.data.cache.reader import PackedReader
from dsrface.data.datasets import PairDataset, Sample
from dsrface.data.loaders import make_loader
from dsrface.data.samplers import BatchSampler, EpochOrder, Key
from dsrface.engine.inference import super_resolve
from dsrface.events import Emit, Note
from dsrface.models.heads import build_head
from dsrface.models.preprocess import normalise
from dsrface.models.recognisers import build_recogniser
from dsrface.runtime.devices import Device, autocast, choose_device
from dsrface.types import Batch

BENCH = "finetune"
_BATCH = 32
_IMAGES = 256


class InlineDataset(Dataset[Sample]):
    """Runs the DSR on one image at a time, in `__getitem__`; so it allows no workers."""

    def __init__(self, pairs: PairDataset, upscale: Callable[[Tensor], Tensor]) -> None:
        self.pairs = pairs
        self.upscale = upscale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: Key) -> Sample:
        sample = self.pairs[key]
        return sample._replace(inputs=self.upscale(sample.inputs[None])[0].cpu())


def run_finetune(config: BenchConfig, folder: Path, *, emit: Emit) -> list[Row]:
    """Measure training steps fed by the cache, by the DSR on whole batches, and by the DSR image by image.

    Args:
        config: Of the bench.
        folder: Empty; the data is made here.
        emit: Takes notes and progress.
    """
    device = choose_device(config.device)
    loaded, size_px = dsr_for_bench(config, device)
    model = loaded.model
    emit(Note(f"making {_IMAGES} pairs"))
    data = make_data(folder, num_images=_IMAGES, num_png=_IMAGES, vlr_size=size_px)
    step = _Step(len(data.split.persons), device)
    low = PairDataset(data.split, inputs=data.split.low_dir(size_px))

    def sampler() -> BatchSampler:
        return BatchSampler(EpochOrder(_IMAGES, 0), batch_size=_BATCH)

    def as_is(images: Tensor) -> Tensor:
        return images

    def dsr(images: Tensor) -> Tensor:
        return super_resolve(model, images.to(device.torch_name), device=device)

    with contextlib.ExitStack() as stack:
        reader = PackedReader(data.split, data.outputs, sampler=sampler(), device=device.torch_name)
        stack.callback(reader.close)
        cached = stack.enter_context(contextlib.closing(endless(reader.epoch)))
        resident = _copy(next(cached), device)
        live_loader = stack.enter_context(make_loader(low, sampler(), num_workers=0))
        inline_loader = stack.enter_context(make_loader(InlineDataset(low, dsr), sampler(), num_workers=0))
        live, inline = endless(live_loader.epoch), endless(inline_loader.epoch)
        sources: dict[str, tuple[Callable[[], Batch], Callable[[Tensor], Tensor]]] = {
            "step alone, one resident batch": (lambda: resident, as_is),
            "cached": (lambda: next(cached), as_is),
            "live, DSR on the batch": (lambda: next(live), dsr),
            "inline, DSR image by image in __getitem__": (lambda: next(inline), as_is),
        }
        names = list(sources)
        rows = interleave(
            BENCH,
            {name: partial(rate, partial(_fed, step, *sources[name])) for name in names},
            ceiling=names[0],
            unit="images/s",
            rounds=config.rounds,
            seconds=config.seconds,
            emit=emit,
        )
        made = _precompute_rate(low, dsr, config)
    cached_per_s, live_per_s = (found.median for found in rows[1:3])
    pays = epochs_until_it_pays(made_per_s=made, cached_per_s=cached_per_s, live_per_s=live_per_s)
    if math.isfinite(pays):
        rows.append(row(BENCH, "precompute pays from this many epochs on, against live", "epochs", [pays]))
    else:
        emit(Note("here the cache was no faster than the DSR in the step: precompute does not pay"))
    return rows


def epochs_until_it_pays(*, made_per_s: float, cached_per_s: float, live_per_s: float) -> float:
    """Return after how many epochs precomputing once and reading has cost less than the DSR in every epoch.

    Args:
        made_per_s: Images per second that precompute makes.
        cached_per_s: Images per second trained on from the cache.
        live_per_s: Images per second trained on with the DSR in the step.

    Returns:
        Whole epochs, at least 1; infinity when reading is no faster.
    """
    saved = 1 / live_per_s - 1 / cached_per_s
    return float(math.ceil(max(1.0, 1 / made_per_s / saved))) if saved > 0 else math.inf


def _fed(step: _Step, get: Callable[[], Batch], prepare: Callable[[Tensor], Tensor]) -> int:
    return step(get(), prepare)


class _Step:
    """A training step of the smallest EdgeFace with an ArcFace head."""

    def __init__(self, num_classes: int, device: Device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.backbone = build_recogniser("edgeface_xxs").to(device.torch_name).train()
        self.head: nn.Module = build_head("arcface", num_classes=num_classes, scale=32.0, margin=0.3).to(
            device.torch_name
        )
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=device.kind == "cuda")

    def __call__(self, batch: Batch, prepare: Callable[[Tensor], Tensor]) -> int:
        moved = batch.to(self.device.torch_name)
        images = normalise(to_image01(prepare(moved.inputs)), RECOGNISER_INPUT)
        with autocast(self.device):
            embeddings = self.backbone(images)
        loss = nn.functional.cross_entropy(self.head(embeddings.float(), moved.labels), moved.labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.device.kind == "cuda":
            torch.cuda.synchronize(self.device.torch_name)
        return len(batch)


def _copy(batch: Batch, device: Device) -> Batch:
    clone = Batch(batch.inputs.clone(), batch.high.clone(), batch.labels.clone(), batch.indices.clone())
    return clone.to(device.torch_name)


def _precompute_rate(low: PairDataset, upscale: Callable[[Tensor], Tensor], config: BenchConfig) -> float:
    """Return images per second of reading VLR images and running the DSR on them, in batches."""
    begin = time.perf_counter()
    with make_loader(low, BatchSampler(EpochOrder(len(low), 0), batch_size=_BATCH), num_workers=0) as loader:
        done = sum(
            len(upscale(batch.inputs).cpu()) for batch in _for_seconds(loader.epoch(0), 4 * config.seconds)
        )
    return done / (time.perf_counter() - begin)


def _for_seconds(batches: Iterator[Batch], seconds: float) -> Iterator[Batch]:
    end = time.perf_counter() + seconds
    for batch in batches:
        yield batch
        if time.perf_counter() > end:
            return
