"""Configuration tables that both training commands share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsrface.config.fields import Amp, Device, VlrSize, Workers
from dsrface.config.sources import Config


class OptimConfig(Config):
    """AdamW with warm-up and cosine, updated before every step."""

    lr: float = Field(1e-3, gt=0, description="Highest learning rate, reached when the warm-up ends.")
    final_lr_fraction: float = Field(
        0.01, ge=0, le=1, description="Learning rate at the end, as a fraction of `lr`."
    )
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="Share of the steps that ramp up linearly.")
    weight_decay: float = Field(
        0.0, ge=0, description="AdamW's decay of matrices and kernels; not applied to biases and norms."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the gradient's running mean.")
    beta2: float = Field(
        0.99, ge=0, lt=1, description="AdamW's decay of the squared gradient's running mean."
    )
    clip_norm: float = Field(
        1.0, ge=0, description="Gradients are scaled down to this global L2 norm; 0 leaves them."
    )
    ema_decay: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are validated and saved; 0 turns it off.",
    )


class EngineConfig(Config):
    """How the loop runs; none of it changes what is learned, except `accumulate` by rounding."""

    accumulate: int = Field(
        1, ge=1, description="Micro-batches that one batch is cut into, to fit small memories."
    )
    log_every_steps: int = Field(20, ge=1, description="Steps between fetching metrics from the device.")
    eval_every_epochs: int = Field(
        1, ge=1, description="Epochs between validations; the last is always validated."
    )
    checkpoint_every_steps: int = Field(
        500, ge=0, description="Steps between checkpoints besides those of validations; 0: only those."
    )
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept; the best one is kept too.")
    compile: bool = Field(
        False, description="torch.compile the networks: a slow first step, then up to 1.6x."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard curves when it is installed.")
    wandb: bool = Field(False, description="Log to Weights & Biases, an extra; set up by its own variables.")
    mlflow: bool = Field(False, description="Log to MLflow, an extra; set up by its own variables.")


class LoaderConfig(Config):
    """How batches reach the training process."""

    start_method: Literal["auto", "fork", "spawn", "forkserver"] = Field(
        "auto", description="How worker processes start; auto is this Python's default."
    )
    prefetch_factor: int = Field(2, ge=1, le=1024, description="Batches that each worker prepares ahead.")
    timeout_s: float = Field(
        300.0, ge=0, description="Seconds without a batch after which a worker counts as hung; 0: never."
    )

    @property
    def method(self) -> str | None:
        """The start method asked for; None takes this Python's default."""
        return None if self.start_method == "auto" else self.start_method


class TrainingConfig(Config):
    """What both training commands take."""

    reads: ClassVar[Mapping[str, str]] = {"data": "no-data-set"}
    fills: ClassVar[tuple[str, ...]] = ("run",)

    data: Path = Field(
        description="Data set folder, as `dsrface prepare` writes it, or flat vlr_images/, hr_images/."
    )
    vlr_size: VlrSize = Field(description="Side of the low-resolution images, in pixels.")
    run: Path | None = Field(None, description="Run folder; unset: runs/<command>/<UTC time>-<hash>.")
    resume: bool = Field(False, description="Go on from the run folder's last checkpoint.")
    workers: Workers = Field("auto", description="Loader worker processes; auto measures.")
    seed: int = Field(0, ge=0, description="Fixes initial weights, order and augmentation.")
    device: Device = "auto"
    amp: Amp = Field("auto", description="Mixed-precision dtype of the forward passes.")
    loader: LoaderConfig = LoaderConfig()
    engine: EngineConfig = EngineConfig()

    def needs(self) -> Iterable[tuple[str, str]]:
        """Return the trackers that are asked for."""
        return [(name, name) for name in ("wandb", "mlflow") if getattr(self.engine, name)]

    @model_validator(mode="after")
    def _check_resume(self) -> Self:
        if self.resume and self.run is None:
            raise ValueError("--resume goes with --run, the folder of the run that is to go on")
        return self
