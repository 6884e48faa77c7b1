"""A task of a few numbers, so that the loop is tested without faces; its dropout uses the generator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from dsrface.config.engine import EngineConfig, OptimConfig
from dsrface.config.sources import Config
from dsrface.data.draws import generator
from dsrface.engine.context import Outcome, RunContext
from dsrface.engine.distributed import Ranks, process_group
from dsrface.engine.loop import fit
from dsrface.engine.run_folder import open_run
from dsrface.engine.signals import Stop
from dsrface.engine.task import ParamGroup, Task, Validation
from dsrface.runtime.devices import Device, choose_device
from dsrface.types import Batch

NUM_SAMPLES, SIZE = 24, 4


class ToyConfig(Config):
    command: ClassVar[str] = "toy"
    seed: int = 0


class ToyTask(Task):
    def __init__(self, *, dropout: float = 0.25, nan_at: int = -1, score=None, phases: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(SIZE * SIZE * 3, 6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, 3)
        self.register_buffer("num_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(6))
        self.nan_at, self.score, self.phases = nan_at, score, phases
        self.validated: list[Tensor] = []
        self.epoch_seen: list[tuple[int, list[int]]] = []

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.epoch_seen.append((batch.epoch, batch.indices.tolist()))
        features = self.dropout(self.backbone(batch.inputs.flatten(1).float() / 255))
        self.mean.lerp_(features.detach().float().mean(0), 0.1)
        self.num_seen += 1
        loss = (self.head(features) - batch.labels[:, None]).square().mean(dim=1)
        if self.nan_at >= 0:
            loss = torch.where(batch.indices == self.nan_at, torch.nan, loss)
        return loss.mean(), {"loss/total": loss.mean().detach()}

    def param_groups(self) -> list[ParamGroup]:
        backbone = (0.0, 0.1) if self.phases == 2 else (1.0,)
        return [
            ParamGroup("backbone", list(self.backbone.parameters()), backbone),
            ParamGroup("head", list(self.head.parameters()), (1.0,) * self.phases),
        ]

    def set_phase(self, phase: int) -> None:
        self.backbone.requires_grad_(phase == self.phases - 1)

    def validate(self, *, step: int, samples_dir: Path, is_last: bool) -> Validation:
        assert not self.training
        self.validated.append(self.backbone.weight.detach().clone())
        score = self.score(step) if self.score else float(step)
        return Validation({"score": score}, score)

    def save_model(self, path: Path, *, step: int) -> None:
        from safetensors.torch import save_file

        save_file({name: tensor.detach().clone() for name, tensor in self.state_dict().items()}, path)

    def memory(self):
        return {"has_validated": bool(self.validated)}

    def recall(self, memory):
        self.recalled = memory

    def describe(self, indices: list[int]) -> list[str]:
        return [f"face-{index}.png" for index in indices]


class ToySource:
    """24 samples in seeded order; `on_batch` is called before each batch with the number given so far."""

    def __init__(self, batch_size: int = 8, on_batch=None, rank: int = 0, world_size: int = 1) -> None:
        self.batch_size, self.on_batch, self.rank, self.world_size = batch_size, on_batch, rank, world_size
        rng = generator(0, 0, 0, "toy")
        self.images = torch.from_numpy(rng.integers(0, 256, (NUM_SAMPLES, SIZE, SIZE, 3), dtype="uint8"))
        self.given = 0
        self.buffer = torch.empty(batch_size // world_size, dtype=torch.int64)

    @property
    def num_batches(self) -> int:
        return NUM_SAMPLES // self.batch_size

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        order = torch.from_numpy(generator(0, epoch, 0, "order").permutation(NUM_SAMPLES))
        for number in range(start_batch, self.num_batches):
            if self.on_batch:
                self.on_batch(self.given)
            self.given += 1
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            share = self.batch_size // self.world_size
            batch = batch[self.rank * share : (self.rank + 1) * share]
            self.buffer.copy_(batch)  # a reader reuses its buffers
            yield Batch(self.images[batch], self.images[batch], batch % 3, self.buffer, epoch)


class Recorder:
    def __init__(self) -> None:
        self.events: list[object] = []

    def emit(self, event: object) -> None:
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def train(
    folder: Path,
    task: Task,
    source: ToySource | None = None,
    *,
    epochs: tuple[int, ...] = (4,),
    resume: bool = False,
    optim: dict | None = None,
    engine: dict | None = None,
    stop: Stop | None = None,
    amp: str = "fp32",
) -> tuple[Outcome, Recorder]:
    recorder = Recorder()
    # fp16 needs a GPU to be of use, but its scaler works anywhere
    device = Device("cpu", "cpu", "fp16", "test") if amp == "fp16" else choose_device("cpu", amp=amp)
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(process_group(device))
        config = ToyConfig()
        if ranks.is_main:
            run = stack.enter_context(open_run(config, run=folder, resume=resume, seed=0))
        else:
            from dsrface.engine.run_folder import RunFolder

            run = RunFolder(folder, resume)
        ranks.share(None)
        context = RunContext(device, ranks, run, recorder.emit, stop or Stop(), 0)
        outcome = fit(
            task,
            source or ToySource(rank=ranks.rank, world_size=ranks.world_size),
            phase_epochs=epochs,
            optim=OptimConfig(**({"lr": 1e-2, "warmup_fraction": 0.25} | (optim or {}))),
            engine=EngineConfig(**({"log_every_steps": 2, "checkpoint_every_steps": 2} | (engine or {}))),
            context=context,
        )
    return outcome, recorder


__all__ = ["NUM_SAMPLES", "Ranks", "Recorder", "Stop", "ToySource", "ToyTask", "train"]
