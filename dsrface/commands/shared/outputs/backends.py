"""Which backend runs a DSR: the one asked for, the one that outputs were begun with, or the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dsrface.commands.shared.outputs.jobs import Job
from dsrface.commands.shared.outputs.pipeline import Upscaler
from dsrface.config.catalogue import BACKENDS, DSR_NETWORKS, load
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.augment import to_image01
from dsrface.data.decode import read_sized
from dsrface.data.stored import MANIFEST, PLAN
from dsrface.engine.distributed import Ranks
from dsrface.engine.inference import super_resolve
from dsrface.errors import MachineError, UsageError
from dsrface.events import Emit, Note
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.devices import Device
from dsrface.runtime.files import read_json
from dsrface.types import VLR_SIZES_PX

AUTO, PLAIN = "auto", "fp32"
NEAR_SHARE = 0.999  # of the values, within one level of fp32
_ROUNDS = 5
_BATCH = 32
Sample = Callable[[], UInt8[Tensor, "n s s 3"]]


@dataclass(frozen=True)
class Running:
    """A DSR as it is run.

    Args:
        name: Key of `BACKENDS`.
        loaded: What is known of it, its network replaced by the one to run.
        device: Where, and in which number format.
    """

    name: str
    loaded: LoadedModel
    device: Device


def key_of(backend: str, device: Device) -> dict[str, str]:
    """Return what of a backend and its device changes pixels; what `begun_with` reads."""
    return {"amp": device.amp} if backend in (PLAIN, "bf16") else {"amp": device.amp, "backend": backend}


def choose(
    config: PrecomputeConfig,
    loaded: LoadedModel,
    device: Device,
    jobs: Sequence[Job],
    ranks: Ranks,
    emit: Emit,
) -> Running:
    """Return the DSR in the backend that is asked for; auto goes on with that of outputs which are there.

    Args:
        config: Of `precompute`.
        loaded: The DSR, on the device.
        device: Where it runs.
        jobs: What it will be run over.
        ranks: This job's processes; rank 0 measures for all.
        emit: Takes a note on what auto chose.
    """

    def sample() -> Tensor:
        names = jobs[0].names[:_BATCH]
        size_px = loaded.vlr_size or config.vlr_size or VLR_SIZES_PX[0]
        return torch.from_numpy(np.stack([read_sized(jobs[0].low_dir / name, size_px) for name in names]))

    if config.backend != AUTO:
        return build(config.backend, loaded, device, sample)
    running = None
    with ranks.fail_together():
        if ranks.is_main:
            running = _chosen(config, loaded, device, jobs, sample, emit)
    name = ranks.share(None if running is None else running.name)
    return running or build(name, loaded, device, sample)


def _chosen(
    config: PrecomputeConfig,
    loaded: LoadedModel,
    device: Device,
    jobs: Sequence[Job],
    sample: Sample,
    emit: Emit,
) -> Running:
    begun = None if config.force else begun_with(job.outputs_dir for job in jobs)
    if begun is not None and config.amp == AUTO and device.kind == "cpu" and _is_own(loaded):
        return build(begun, loaded, device, sample)
    num_images = sum(len(job.names) for job in jobs) * config.variants
    running, reason = fastest(loaded, device, sample, num_images=num_images)
    emit(Note(f"backend: {reason}"))
    return running


def build(name: str, loaded: LoadedModel, device: Device, sample: Sample) -> Running:
    """Return a DSR run by a backend.

    Args:
        name: Key of `BACKENDS`.
        loaded: The DSR, on the device.
        device: A CPU for any backend but fp32.
        sample: Reads some of the images that it will get, uint8 [n, s, s, 3].

    Raises:
        UsageError: the network or the device cannot be run this way.
        MachineError: this installation lacks what it takes.
    """
    if name == PLAIN:
        return Running(name, loaded, device)
    if device.kind != "cpu" or not _is_own(loaded):
        raise UsageError(
            f"The backend {name} runs networks that dsrface trained, on a CPU; this is {loaded.name} on "
            f"{device.kind}.",
            id="backend-unavailable",
            hint="Leave out `backend`, or give `--device cpu`.",
        )
    entry = BACKENDS[name]
    network = load(entry.build)(loaded, lambda: to_image01(sample()))
    return Running(name, replace(loaded, model=network), replace(device, amp=entry.amp))


def fastest(loaded: LoadedModel, device: Device, sample: Sample, *, num_images: int) -> tuple[Running, str]:
    """Return the fastest backend whose pixels are those of fp32 to a level, and one line that says why.

    Args:
        loaded: The DSR, on the device.
        device: Where it runs.
        sample: Reads some of the images that it will get, uint8 [n, s, s, 3].
        num_images: How many there are: what takes long to make must pay for itself.
    """
    plain = Running(PLAIN, loaded, device)
    if device.kind != "cpu" or device.amp != "fp32" or not _is_own(loaded):
        return plain, f"auto -> torch in {device.amp}"
    names = [name for name, entry in BACKENDS.items() if entry.is_near and num_images >= entry.min_images]
    if len(names) < 2:
        return plain, f"auto -> {PLAIN}: for {num_images} images, measuring takes longer than it saves"
    low = sample()
    candidates, found = [plain], []
    for name in names[1:]:
        try:
            candidate = build(name, loaded, device, lambda: low)
        except MachineError as error:
            found.append(f"{name}: {error.id}")
            continue
        share = share_within_a_level(plain, candidate, low)
        if share >= NEAR_SHARE:
            candidates.append(candidate)
        else:
            found.append(f"{name}: only {share:.2%} within a level of fp32")
    seconds = _seconds(candidates, low)
    chosen = min(candidates, key=lambda item: seconds[item.name])
    rates = [f"{item.name}: {seconds[PLAIN] / seconds[item.name]:.2f}x" for item in candidates]
    limit = f"at least {NEAR_SHARE:.1%} of the values within a level of fp32"
    return chosen, f"auto -> {chosen.name} ({', '.join([*rates, *found])}; {limit})"


def begun_with(folders: Iterable[Path]) -> str | None:
    """Return the backend that stored outputs were made with; None where there are none yet."""
    for folder in folders:
        for name in (MANIFEST, PLAN):
            key = read_json(folder / name).get("key", {}) if (folder / name).exists() else {}
            backend = key.get("backend", key.get("amp"))
            if backend in BACKENDS:
                return str(backend)
    return None


def share_within_a_level(plain: Running, other: Running, low: UInt8[Tensor, "n s s 3"]) -> float:
    """Return the share of 8-bit values that differ by one or not at all."""
    first, second = (
        super_resolve(item.loaded.model, low, device=item.device).to(torch.int16) for item in (plain, other)
    )
    return float(((first - second).abs() <= 1).float().mean())


def _is_own(loaded: LoadedModel) -> bool:
    return str(loaded.config.get("arch")) in DSR_NETWORKS


def _seconds(candidates: list[Running], low: Tensor) -> dict[str, float]:
    """Return each one's best time for a batch on every thread; they take turns, as machines change pace."""
    batch = low[torch.arange(_BATCH) % len(low)]
    best = {item.name: float("inf") for item in candidates}
    for _ in range(_ROUNDS):
        for item in candidates:
            with Upscaler(item.loaded.model, item.device) as upscale:
                begin = time.perf_counter()
                for get in [upscale(batch) for _ in range(upscale.at_once)]:
                    get()
                best[item.name] = min(best[item.name], time.perf_counter() - begin)
    return best
