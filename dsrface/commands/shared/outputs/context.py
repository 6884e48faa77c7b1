"""What every output folder of one `dsrface precompute` shares, and how the ranks keep in step."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsrface import __version__
from dsrface.commands.shared.outputs.backends import PLAIN, key_of
from dsrface.commands.shared.outputs.jobs import num_threads
from dsrface.commands.shared.outputs.pipeline import Reading, Upscaler
from dsrface.commands.shared.workers import choose_workers
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.outputs.rows import RowDataset
from dsrface.data.stored import LOCK, is_finished
from dsrface.engine.backends import MirrorEnsemble
from dsrface.engine.batch_size import BatchChoice, choose_batch_size
from dsrface.engine.distributed import Ranks
from dsrface.errors import MachineError
from dsrface.events import Emit, Note
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.devices import Device
from dsrface.runtime.locks import exclusive
from dsrface.types import HIGH_SIZE_PX

# Raised by hand when the code changes what comes out for the same weights, settings and images.
PIPELINE_VERSION = 1

# Opening a VLR image is nearly all Python, which threads cannot share: two read 3,700 a second, one 4,700.
READING_THREADS = 1


@dataclass(frozen=True)
class PrecomputeContext:
    """What every output folder of this run shares.

    Args:
        config: Complete configuration.
        loaded: The DSR.
        vlr_size: Side of the images that it is given, in pixels.
        device: Where it runs, and in which number format.
        ranks: This job's processes.
        emit: Takes the events of rank 0.
        make_upscaler: Makes a function on host batches of the network and its device.
        backend: What runs the DSR, a key of `BACKENDS`.
    """

    config: PrecomputeConfig
    loaded: LoadedModel
    vlr_size: int
    device: Device
    ranks: Ranks
    emit: Emit
    make_upscaler: Callable[[nn.Module, Device], Upscaler] = Upscaler
    backend: str = PLAIN

    @property
    def label(self) -> str:
        """What is being made, for the progress bar."""
        return f"DSR outputs {self.vlr_size}x{self.vlr_size}"

    def upscaler(self) -> Upscaler:
        """Return the DSR as a function on host batches."""
        network = MirrorEnsemble(self.loaded.model) if self.config.self_ensemble else self.loaded.model
        return self.make_upscaler(network, self.device)

    def key(self) -> dict[str, Any]:
        """Return everything that changes pixels; another value anywhere makes outputs stale."""
        changes = {"self_ensemble": True} if self.config.self_ensemble else {}
        return {
            **changes,
            "dsr_sha256": self.loaded.sha256,
            "vlr_size": self.vlr_size,
            "size_px": HIGH_SIZE_PX,
            **key_of(self.backend, self.device),
            "rounding": "clamp to [0, 1], times 255, half to even",
            "pipeline_version": PIPELINE_VERSION,
        }

    def info(self) -> dict[str, Any]:
        """Return what people may want to know; it is not part of the key."""
        return {
            "dsrface": __version__,
            "torch": torch.__version__,
            "device": self.device.kind,
            "dsr": str(self.loaded.config.get("arch", "")),
        }

    @functools.cached_property
    def batch_size(self) -> int:
        """The batch size asked for, or a measured one."""
        if isinstance(self.config.batch_size, int):
            return self.config.batch_size
        image = torch.zeros((1, self.vlr_size, self.vlr_size, 3), dtype=torch.uint8)
        with self.upscaler() as upscale:
            choice = measure_batch_size(upscale, image)
        self.emit(Note(f"batch size: {choice.reason}"))
        return choice.batch_size

    def reading(self, dataset: RowDataset, batch_size: int) -> Reading:
        """Return how images are read."""
        workers = self.config.workers
        if workers == "auto" and self.device.kind == "cpu":
            # The network keeps every core busy, and small images cost next to nothing in comparison.
            workers = 0
        number = choose_workers(workers, dataset, batch_size=batch_size, context=self)
        return Reading(dataset, batch_size, number, num_threads() if dataset.is_high else READING_THREADS)


def measure_batch_size(upscale: Upscaler, image: Tensor) -> BatchChoice:
    """Return the batch size at which `upscale` is fastest, with as many batches at once as it takes.

    Args:
        upscale: The DSR.
        image: uint8 [1, s, s, 3].
    """

    def run(number: int) -> None:
        batch = image.expand(number, -1, -1, -1).contiguous()
        for get in [upscale(batch) for _ in range(upscale.at_once)]:
            get()

    return choose_batch_size(run, device=upscale.device, at_once=upscale.at_once)


@contextlib.contextmanager
def locked(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the folder's lock in rank 0; the others work under it.

    A finished folder on a disk that cannot be written to needs no lock to be found complete; whatever would
    have to be written there says so itself.
    """
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            try:
                stack.enter_context(exclusive(folder / LOCK, what="output folder"))
            except MachineError:
                if not is_finished(folder):
                    raise

        ranks.on_main(lock)
        yield
