"""Configuration of `dsrface train-dsr`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsrface.config.dsr_model import AnyDsrTable
from dsrface.config.dsr_networks import ResidualTable
from dsrface.config.engine import EngineConfig, OptimConfig, TrainingConfig
from dsrface.config.fields import GeometryConfig
from dsrface.config.sources import Config

# With some 500 training images, 6,000 steps gain about 0.2 dB over 1,800 on new persons.
_AUTO_STEPS = 6000
_FEWEST_EPOCHS, _MOST_EPOCHS = 60, 200


class DsrAugmentConfig(GeometryConfig):
    """Geometry drawn per sample on the HR image, before it is degraded again."""

    enabled: bool = Field(
        True, description="Draw new geometry in every epoch; off trains on the stored pairs."
    )


class DsrLossConfig(Config):
    """What the network is asked to reduce."""

    pixel: Literal["charbonnier", "l1"] = Field("charbonnier", description="Distance of pixels in [0, 1].")
    pixel_weight: float = Field(1.0, gt=0, description="Weight of the pixel term.")
    identity_weight: float = Field(
        0.05, ge=0, description="Weight of 1 - cosine of the embeddings; counts only with `identity_weights`."
    )
    vgg_weight: float = Field(
        0.0, ge=0, description="Weight of the VGG perceptual term; needs `vgg_weights`."
    )
    vgg_weights: Path | None = Field(None, description="File of torchvision's VGG-19 weights.")


class DsrEvalConfig(Config):
    """What is validated, on validation persons."""

    max_images: int = Field(
        2000, ge=1, description="Validation images at most, drawn by the seed; held in memory."
    )
    batch_size: int = Field(64, ge=1, le=1_048_576, description="Images per forward pass of a validation.")
    num_strips: int = Field(8, ge=0, description="Rows of the VLR | bicubic | DSR | HR image.")


class TrainDsrConfig(TrainingConfig):
    """Train a super-resolution network from VLR to HR faces."""

    command: ClassVar[str] = "train-dsr"
    looks: ClassVar[Mapping[str, str]] = {"data": "dsrface.data.folders:check_has_twins"}
    networks: ClassVar[Mapping[str, str]] = {"identity_weights": "recogniser"}
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Training": ("vlr_size", "preset", "epochs", "batch_size", "identity_weights"),
        "How it runs": ("run", "resume", "workers", "device"),
    }

    preset: str = Field("small", description="Preset that the other values started from.")
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = Field(
        "auto",
        description="Epochs: passes over the training images; auto: as many as make 6,000 steps, at least 60 "
        "and at most 200.",
    )
    batch_size: int = Field(
        16, ge=1, le=1_048_576, description="Images per optimiser step, over all ranks together."
    )
    identity_weights: Path | None = Field(
        None, description="Recogniser (run folder or file) whose embedding the output must keep."
    )
    model: AnyDsrTable = ResidualTable(channels=48, blocks=9, mixer_rank=64)
    augment: DsrAugmentConfig = DsrAugmentConfig()
    loss: DsrLossConfig = DsrLossConfig()
    eval: DsrEvalConfig = DsrEvalConfig()
    optim: OptimConfig = OptimConfig(lr=3e-3, ema_decay=0.995)
    engine: EngineConfig = EngineConfig(eval_every_epochs=5)

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data set."""
        return [(self.data, self.vlr_size)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.loss.vgg_weight > 0 and self.loss.vgg_weights is None:
            raise ValueError("loss.vgg_weight > 0 needs loss.vgg_weights, a file")
        return self

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Return the epochs to train; auto gives small sets more of them."""
        if self.epochs != "auto":
            return self.epochs
        return min(max(round(_AUTO_STEPS / steps_per_epoch), _FEWEST_EPOCHS), _MOST_EPOCHS)
