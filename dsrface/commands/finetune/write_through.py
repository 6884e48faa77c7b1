"""`finetune --write-through`: what live mode computes in its first epoch becomes the cache of the others."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dsrface.commands.finetune.data import RecogniserData
from dsrface.commands.shared.outputs.context import PrecomputeContext
from dsrface.commands.shared.outputs.jobs import make_jobs
from dsrface.commands.shared.outputs.pipeline import Get, Upscaler
from dsrface.commands.shared.outputs.store import run_folder
from dsrface.commands.shared.outputs.stores import stores_of
from dsrface.config.precompute import PrecomputeConfig
from dsrface.engine.context import BatchSource
from dsrface.engine.recognition_task import InputMaker
from dsrface.events import Note
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.devices import Device
from dsrface.types import HIGH_SIZE_PX, Batch

_RECORD = HIGH_SIZE_PX * HIGH_SIZE_PX * 3


class OutputSpool:
    """DSR outputs by the content of their VLR image, in a scratch file.

    Args:
        path: The scratch file; made new.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def remember(self, low: Tensor, outputs: Tensor) -> None:
        """Keep uint8 [B, 112, 112, 3] outputs of uint8 [B, s, s, 3] images, each once."""
        for image, output in zip(low.cpu().numpy(), outputs.cpu().numpy(), strict=True):
            key = _digest(image)
            if key not in self._rows:
                self._rows[key] = len(self._rows)
                self._file.write(output.tobytes())

    def recall(self, low: Tensor) -> Tensor | None:
        """Return the outputs of a batch, or None when one of them was never seen."""
        rows = [self._rows.get(_digest(image)) for image in low.cpu().numpy()]
        if None in rows:
            return None
        self._file.flush()
        outputs = np.empty((len(rows), HIGH_SIZE_PX, HIGH_SIZE_PX, 3), np.uint8)
        for output, row in zip(outputs, rows, strict=True):
            assert row is not None
            self._file.seek(row * _RECORD)
            output[:] = np.frombuffer(self._file.read(_RECORD), np.uint8).reshape(output.shape)
        return torch.from_numpy(outputs)

    def close(self) -> None:
        """Delete the scratch file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def remembering(make_inputs: InputMaker, spool: OutputSpool) -> InputMaker:
    """Return `make_inputs`, keeping every DSR output that passes."""

    def wrapped(inputs: Tensor, high: Tensor) -> Tensor:
        outputs = make_inputs(inputs, high)
        if inputs.shape[1] != HIGH_SIZE_PX:
            spool.remember(inputs, outputs)
        return outputs

    return wrapped


class WriteThroughSource:
    """Live batches in epoch 0; from then on, batches of the cache that it leaves behind.

    After a resume the spool may be empty: what is missing is then computed once more.

    Args:
        live: The live batches.
        faces: The run's data.
        spool: What the DSR has put out so far.
        loaded: The DSR.
    """

    def __init__(
        self, live: BatchSource, faces: RecogniserData, spool: OutputSpool, loaded: LoadedModel
    ) -> None:
        self._live, self._faces, self._spool, self._loaded = live, faces, spool, loaded
        self._cached: BatchSource | None = None

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, live or cached."""
        return self._live.num_batches

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch."""
        if epoch == 0:
            yield from self._live.epoch(epoch, start_batch)
            return
        if self._cached is None:
            self._cached = self._write()
        yield from self._cached.epoch(epoch, start_batch)

    def _write(self) -> BatchSource:
        faces, config = self._faces, self._faces.config
        run = faces.context
        assert config.live is not None
        folder = faces.train.outputs_dir(config.vlr_size)
        precompute = PrecomputeConfig(
            data=config.data, weights=config.live, workers=0, device=config.device, amp=config.amp
        )
        recalling = functools.partial(_RecallingUpscaler, spool=self._spool)
        context = PrecomputeContext(
            precompute,
            self._loaded,
            config.vlr_size,
            run.device,
            run.ranks,
            run.emit,
            make_upscaler=recalling,
        )
        run.emit(Note(f"write-through: {len(self._spool)} outputs of the first epoch go to {folder}"))
        for job in make_jobs(precompute, config.vlr_size):
            if job.outputs_dir == folder:
                for store in stores_of(job, context):
                    run_folder(store, context)
        self._spool.close()
        cached = config.model_copy(update={"live": None, "dsr_outputs": folder, "write_through": False})
        return replace(faces, config=cached).source()


class _RecallingUpscaler(Upscaler):
    """An upscaler that computes only what the spool does not hold."""

    def __init__(self, model: nn.Module, device: Device, *, spool: OutputSpool) -> None:
        super().__init__(model, device)
        self._spool = spool

    def __call__(self, low: Tensor) -> Get:
        known = self._spool.recall(low)
        if known is None:
            return super().__call__(low)
        return known.numpy


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
