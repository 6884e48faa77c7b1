"""Configuration of `dsrface finetune`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsrface.config.catalogue import HEADS, RECOGNISERS, TIMM
from dsrface.config.engine import OptimConfig, TrainingConfig
from dsrface.config.fields import EARLY, GeometryConfig, OneOf
from dsrface.config.sources import Config


class HeadOptions(Config):
    """The head over the training persons; it is thrown away after training."""

    scale: float = Field(
        0.0,
        ge=0,
        description="Multiplies the cosines; 0 chooses the smallest that can reach probability 0.95, >= 32.",
    )
    margin: float | None = Field(
        None,
        ge=0,
        lt=1.5,
        description="ArcFace: angle in rad; CosFace, AdaFace: cosine. Unset: 0.5, 0.35, 0.4, as published.",
    )
    init_images_per_person: int = Field(
        8,
        ge=0,
        description="Images averaged into a person's first class weight; 0 draws the weights at random.",
    )
    sample_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the persons that a step's softmax is over, those of the batch always "
        "(Partial FC): for 100,000 persons and more; 1 takes all.",
    )


class AnchorConfig(Config):
    """Holds the embedding space where the starting recogniser had it."""

    weight: float = Field(
        1.0, ge=0, description="Weight of 1 - cosine to the frozen teacher's embedding of the HR twin."
    )
    hr_fraction: float = Field(
        0.25, ge=0, le=1, description="Share of a batch's inputs replaced by their HR twins."
    )


class BackboneOptions(Config):
    """How the backbone starts and learns."""

    lr_fraction: float = Field(
        0.1, ge=0, le=1, description="Backbone's learning rate in stage 2, as a fraction of the head's."
    )
    adapter_rank: int = Field(
        0,
        ge=0,
        le=1024,
        description="Train low-rank adapters of this rank to the layers, for small faces alone; HR faces "
        "keep their embeddings to the bit. 0 trains the layers.",
    )
    layer_scale: float = Field(
        0.1, gt=0, description="Initial layer scale of a backbone from scratch; weight files bring their own."
    )


class RecogAugmentConfig(GeometryConfig):
    """Drawn per sample on the device; the HR twin gets the same geometry."""

    brightness: float = Field(0.1, ge=0, lt=1, description="Largest change of brightness, of the full range.")
    contrast: float = Field(0.1, ge=0, lt=1, description="Largest change of contrast, as a fraction.")
    before_dsr: bool = Field(
        False,
        description="Live mode: draw the geometry on the HR image, degrade it again, in the workers.",
    )


class RecogEvalConfig(Config):
    """What is validated: verification on validation persons, HR gallery against probes."""

    max_images: int = Field(
        2000, ge=2, description="Validation images at most, whole persons, drawn by the seed."
    )
    batch_size: int = Field(64, ge=1, le=1_048_576, description="Images per forward pass of a validation.")
    holdout_fraction: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description="Share of each person's training images kept out for closed-set accuracy.",
    )
    select_by: Literal["auc", "eer"] = Field(
        "auc", description="Verification figure that picks the best checkpoint."
    )


class FinetuneConfig(TrainingConfig):
    """Fine-tune a recogniser on super-resolved faces."""

    command: ClassVar[str] = "finetune"
    networks: ClassVar[Mapping[str, str]] = {
        "live": "dsr",
        "backbone_weights": "recogniser",
        "teacher": "recogniser",
    }
    together: ClassVar[tuple[str, ...]] = (f"{EARLY}:check_backbone",)
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What to train on, one of these": ("dsr_outputs", "live", "no_dsr", "hr_only"),
        "Training": (
            "vlr_size",
            "backbone_weights",
            "backbone",
            "stage1_epochs",
            "stage2_epochs",
            "batch_size",
        ),
        "How it runs": ("run", "resume", "preset", "workers", "device"),
    }

    @classmethod
    def from_earlier(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Take `[trunk]` for `[backbone_options]` and `[classifier]` for `[head_options]`."""
        return {
            re.sub(r"^trunk\.", "backbone_options.", re.sub(r"^classifier\.", "head_options.", key)): value
            for key, value in values.items()
        }

    dsr_outputs: Path | None = Field(None, description="Mode cached: what `dsrface precompute` wrote.")
    live: Path | None = Field(
        None, description="Mode live: DSR run folder or weight file, run on every batch."
    )
    no_dsr: bool = Field(False, description="Mode bicubic: plain up-sampling instead of a DSR.")
    hr_only: bool = Field(
        False, description="Train on the HR images: makes a starting recogniser where none is at hand."
    )
    backbone: Annotated[str, OneOf(RECOGNISERS, prefix=TIMM)] = Field(
        "edgeface_xxs",
        description="Recogniser; weights given must be of this one. `timm:NAME` takes a network of timm.",
    )
    backbone_weights: Path | None = Field(
        None,
        description="Starting weights: official EdgeFace file or finetune run; unset: trains from scratch.",
    )
    teacher: Path | None = Field(
        None,
        description="Recogniser whose embedding of the HR twin is learnt for what is trained on, with "
        "`anchor.weight`; unset: the starting weights.",
    )
    head: Annotated[str, OneOf(HEADS)] = Field("arcface", description="Margin loss of the head.")
    stage1_epochs: int = Field(2, ge=0, le=1_000_000, description="Epochs that train the head alone.")
    stage2_epochs: int = Field(20, ge=0, le=1_000_000, description="Epochs that train backbone and head.")
    preset: str = Field("default", description="Preset that the other values started from.")
    batch_size: int = Field(
        64, ge=2, le=1_048_576, description="Images per optimiser step, over all ranks together."
    )
    images_per_person: int = Field(
        0,
        ge=0,
        description="K of P x K batches, P = batch_size / K; 0 shuffles images without regard to persons.",
    )
    resident: Literal["auto", "always", "never"] = Field(
        "auto", description="Mode cached: keep the packed cache on a CUDA device; auto: when it fits."
    )
    write_through: bool = Field(
        False, description="Live mode: cache the DSR's outputs in the first epoch, then read them."
    )
    head_options: HeadOptions = HeadOptions()
    anchor: AnchorConfig = AnchorConfig()
    backbone_options: BackboneOptions = BackboneOptions()
    augment: RecogAugmentConfig = RecogAugmentConfig()
    eval: RecogEvalConfig = RecogEvalConfig()
    optim: OptimConfig = OptimConfig(lr=1e-3, weight_decay=0.05, beta2=0.999)

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data set, where its VLR faces are what is enlarged."""
        return [(self.data, self.vlr_size)] if self.live is not None or self.no_dsr else []

    @model_validator(mode="after")
    def _check(self) -> Self:
        modes = {
            "--dsr-outputs": self.dsr_outputs is not None,
            "--live": self.live is not None,
            "--no-dsr": self.no_dsr,
            "--hr-only": self.hr_only,
        }
        given = [flag for flag, is_given in modes.items() if is_given]
        if len(given) != 1:
            too_many = f"; here are {' and '.join(given)}" if given else ""
            raise ValueError(f"give exactly one of {', '.join(modes)}{too_many}")
        if self.stage1_epochs + self.stage2_epochs == 0:
            raise ValueError("--stage1-epochs and --stage2-epochs are both 0: nothing to train")
        if self.images_per_person and self.batch_size % self.images_per_person:
            size, each = self.batch_size, self.images_per_person
            raise ValueError(f"batch_size {size} is not a multiple of images_per_person {each}")
        if self.backbone_options.adapter_rank and (self.hr_only or self.backbone_weights is None):
            raise ValueError(
                "backbone_options.adapter_rank needs --backbone-weights, and small faces as input"
            )
        if self.write_through and self.live is None:
            raise ValueError("--write-through goes with --live")
        if self.write_through and self.augment.before_dsr:
            raise ValueError("--write-through caches one output an image: augment.before_dsr must be false")
        return self

    @property
    def mode(self) -> str:
        """Which of the four inputs is trained on: cached, live, bicubic or hr."""
        if self.dsr_outputs is not None:
            return "cached"
        if self.live is not None:
            return "live"
        return "bicubic" if self.no_dsr else "hr"
