"""Configuration of `dsrface precompute`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsrface.config.catalogue import BACKENDS
from dsrface.config.fields import EARLY, Amp, Device, GeometryConfig, OneOf, Workers
from dsrface.config.sources import Config


class StorageConfig(Config):
    """How the packed cache is cut into files."""

    shard_images: int = Field(
        8192, ge=1, description="Images a shard at most; a killed run does at most one shard again."
    )
    order_seed: int = Field(0, ge=0, description="Fixes the shuffled order of the images on disk.")


class PrecomputeConfig(Config):
    """Run a DSR once over a data set or a folder, and keep what it puts out."""

    command: ClassVar[str] = "precompute"
    goes_on: ClassVar[bool] = True
    reads: ClassVar[Mapping[str, str]] = {"data": "no-data-set", "input": "folder-missing"}
    networks: ClassVar[Mapping[str, str]] = {"weights": "dsr"}
    fills: ClassVar[tuple[str, ...]] = ("output",)
    together: ClassVar[tuple[str, ...]] = (f"{EARLY}:check_input",)
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Network and images": ("weights", "input", "output"),
        "What is kept": ("format", "variants", "force", "verify"),
        "How it runs": ("batch_size", "workers", "device"),
    }

    data: Path | None = Field(None, description="Data set folder; all its splits are done.")
    input: Path | None = Field(None, description="Folder of VLR images, instead of a data set.")
    output: Path | None = Field(None, description="Where the outputs of `input` go.")
    weights: Path = Field(description="DSR run folder or weight file, or a network of others.")
    vlr_size: int | None = Field(
        None,
        ge=4,
        le=112,
        description="Side of the VLR images, in pixels; only for a network that takes any size.",
    )
    format: Literal["cache", "png"] = Field(
        "cache", description="cache: packed shards; png: one file an image, same relative names."
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Batch size of the forward passes; auto measures."
    )
    variants: int = Field(
        1, ge=1, le=256, description="Variants an image; those after the first are augmented."
    )
    verify: bool = Field(False, description="Only check a finished output, every byte of it.")
    force: bool = Field(
        False, description="Throw away what other weights or settings have made, and start over."
    )
    workers: Workers = Field(
        "auto", description="Processes that read images; 0 reads in threads of this process."
    )
    device: Device = "auto"
    amp: Amp = Field(
        "auto", description="Mixed-precision dtype of the forward passes; it changes pixels by rounding."
    )
    backend: Annotated[str, OneOf({"auto": "", **BACKENDS})] = Field(
        "auto",
        description="What runs the DSR on a CPU; auto: the fastest whose pixels are within a level of fp32.",
    )
    self_ensemble: bool = Field(
        False, description="Average with what the DSR makes of the mirrored face: twice the time."
    )
    seed: int = Field(0, ge=0, description="Fixes the draws of the variants.")
    augment: GeometryConfig = Field(
        GeometryConfig(),
        description="How variants 1..K-1 differ from variant 0, which is the image as it is on disk.",
    )
    storage: StorageConfig = StorageConfig()

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data set, where the size is not left to the DSR."""
        return [(self.data, self.vlr_size)] if self.data and self.vlr_size else []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.amp != "auto" and self.backend != "auto":
            raise ValueError("--amp and backend both say how the DSR is run: give one of them")
        if self.verify and self.force:
            raise ValueError("--verify only checks and --force starts over: give one of them")
        if self.data is not None and self.input is not None:
            raise ValueError("give a data set or --input, not both")
        if self.input is None and self.output is not None:
            raise ValueError("--output goes with --input; the outputs of a data set lie next to its images")
        if self.data is None and self.input is None:
            raise ValueError("give a data set, or --input with --output")
        if self.input is not None and self.output is None:
            raise ValueError("--output is missing: where the outputs of --input go")
        if self.input and self.output and self.output.resolve().is_relative_to(self.input.resolve()):
            raise ValueError("--output must be outside --input: outputs are no inputs of the next run")
        if self.variants > 1 and (self.format == "png" or self.data is None):
            raise ValueError("--variants needs a data set and the cache format")
        return self
