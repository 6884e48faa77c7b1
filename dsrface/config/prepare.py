"""Configuration of `dsrface prepare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from dsrface.config.fields import HighSize, Workers
from dsrface.config.sources import Config
from dsrface.types import HIGH_SIZE_PX, SPLITS, VLR_SIZES_PX


class PrepareConfig(Config):
    """Photos to a data set."""

    command: ClassVar[str] = "prepare"
    goes_on: ClassVar[bool] = True
    reads: ClassVar[Mapping[str, str]] = {"source": "no-source"}
    looks: ClassVar[Mapping[str, str]] = {"source": "dsrface.data.photos.scan:check_photo_source"}
    fills: ClassVar[tuple[str, ...]] = ("data",)
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What is made": ("vlr_sizes", "split", "degradation"),
        "What the photos are": ("align", "persons", "native"),
        "How it runs": ("workers",),
    }

    source: Path = Field(
        description="Folder of photos (one folder per person, or flat <person>_<rest>.png) or RecordIO file."
    )
    data: Path = Field(description="Folder of the data set to make.")
    vlr_sizes: tuple[int, ...] = Field(VLR_SIZES_PX, description="Sides of the VLR faces, in pixels.")
    align: str = Field(
        "auto",
        description="Where the five landmarks come from: a file (CSV, RetinaFace, CelebA, dlib, ...), none "
        "(the faces are aligned), resize (aligned squares larger than 112 px are reduced), or auto "
        "(landmarks.csv in the source, else none when the faces are 112x112, else the detector extra).",
    )
    faces: Literal["largest", "central", "refuse"] = Field(
        "largest", description="Which of several faces of a photo is taken, by the detector or the landmarks."
    )
    persons: str = Field(
        "auto",
        description="How persons are known: auto, a folder level (1 is the uppermost), a regular expression "
        "with (?P<person>...), or a list file of a photo and a person a line.",
    )
    split_from: str = Field(
        "auto",
        description="Where a given split comes from: auto (top folders called train, val and test), none, or "
        "a list file of a photo and 0, 1, 2 or train, val, test a line. A split that is missing there comes "
        "out of train.",
    )
    native: bool = Field(
        False,
        description="The photos are low-resolution faces without HR twins: each goes to the nearest of the "
        "VLR sizes, those nearest to 112 px to the HR faces.",
    )
    high_size: HighSize = Field(
        HIGH_SIZE_PX,
        description="Side of the HR faces, in pixels: 112 for recognisers; 128, as published tables of "
        "super-resolution have it, for train-dsr and evaluate alone.",
    )
    split: tuple[float, float, float] = Field(
        (0.8, 0.1, 0.1), description="Shares of persons in train, val and test, each in [0, 1]."
    )
    degradation: Literal["classic", "realistic"] = Field(
        "classic", description="How VLR faces are made: one bicubic kernel, or blur, noise and JPEG as well."
    )
    seed: int = Field(0, ge=0, description="Seed of the split and of the degradation.")
    workers: Workers = Field("auto", description="Worker processes; auto measures.")
    on_bad_image: Literal["skip", "fail"] = Field(
        "skip", description="skip lists bad photos in bad_images.csv; fail stops at the first."
    )

    @field_validator("vlr_sizes")
    @classmethod
    def _sizes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(4 <= size <= 112 for size in value):
            raise ValueError("each size must be from 4 to 112 pixels, and one at least be given")
        return tuple(sorted(set(value)))

    @field_validator("split", mode="before")
    @classmethod
    def _three(cls, value: object) -> object:
        if isinstance(value, list | tuple) and len(value) != len(SPLITS):
            raise ValueError("three shares are needed, for train, val and test, e.g. 0.8,0.1,0.1")
        return value

    @field_validator("split")
    @classmethod
    def _shares(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        # Asked so that nan, which is neither below nor above anything, is refused as well.
        if not (all(share >= 0 for share in value) and abs(sum(value) - 1) < 1e-6):
            meant = ",".join(f"{share / 100:g}" for share in value)
            instead = f"; did you mean {meant}?" if abs(sum(value) - 100) < 1e-3 else ""
            raise ValueError(f"the three shares must not be negative and must sum to 1{instead}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.native and self.high_size != HIGH_SIZE_PX:
            raise ValueError("native faces have no HR twins, so --high-size says nothing of them")
        return self
