"""Configuration of `dsrface bench`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dsrface.config.catalogue import BACKENDS
from dsrface.config.fields import Device, OneOf
from dsrface.config.sources import Config


class BenchConfig(Config):
    """Measure routes side by side in one run, as ratios to a ceiling of the same run."""

    command: ClassVar[str] = "bench"
    networks: ClassVar[Mapping[str, str]] = {"weights": "dsr"}
    fills: ClassVar[tuple[str, ...]] = ("folder",)

    what: Literal["loader", "precompute", "finetune", "all"] = Field(
        "all", description="Which benches to run."
    )
    images: int = Field(16384, ge=64, description="Pairs in the cache that `bench loader` makes.")
    dsr_images: int = Field(4096, ge=64, description="Images that `bench precompute` makes outputs of.")
    batch_size: int = Field(256, ge=2, description="Batch size of `bench loader`.")
    rounds: int = Field(5, ge=1, description="Times that each route is measured, in turn.")
    seconds: float = Field(0.6, gt=0, description="Seconds a route is measured for in each round.")
    step_ms: float = Field(
        10.0, ge=0, description="Length of the simulated training step next to the reader."
    )
    simulated_images: int = Field(
        10_000_000, ge=0, description="Records of the sparse cache that simulates scale; 0 leaves it out."
    )
    weights: Path | None = Field(None, description="DSR to measure with; unset: an untrained one.")
    preset: str = Field("small", description="train-dsr preset whose shape that untrained DSR has.")
    backends: tuple[Annotated[str, OneOf(BACKENDS)], ...] = Field(
        tuple(BACKENDS), description="Ways to run the DSR on a CPU that `bench precompute` measures."
    )
    device: Device = "auto"
    folder: Path | None = Field(None, description="Where the data is made; unset: a temporary folder.")
