"""Configuration of `dsrface evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from dsrface.config.catalogue import BENCHMARKS
from dsrface.config.fields import EARLY, Amp, Device, OneOf, Workers
from dsrface.config.sources import Config


class EvaluateConfig(Config):
    """Measure whether super-resolution and fine-tuning help, on persons that nothing was trained on."""

    command: ClassVar[str] = "evaluate"
    reads: ClassVar[Mapping[str, str]] = {
        "data": "no-data-set",
        "pairs": "bad-pairs",
    }
    looks: ClassVar[Mapping[str, str]] = {"pairs": "dsrface.data.formats.pair_lists:check_pair_list"}
    networks: ClassVar[Mapping[str, str]] = {
        "dsr": "dsr",
        "matrix": "dsr",
        "recogniser": "recogniser",
        "finetuned": "recogniser",
    }
    fills: ClassVar[tuple[str, ...]] = ("out",)
    together: ClassVar[tuple[str, ...]] = (
        f"{EARLY}:check_benchmark",
        f"{EARLY}:check_judge",
        f"{EARLY}:check_pairs",
        f"{EARLY}:check_report_folder",
    )
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What to measure": ("dsr", "dsr_outputs", "recogniser", "finetuned", "matrix"),
        "On which faces": ("vlr_size", "split", "pairs", "protocol"),
        "How it runs": ("out", "workers", "device"),
    }

    data: Path = Field(description="Data set folder, or the folder or file of a benchmark with `protocol`.")
    protocol: Annotated[str | None, OneOf(BENCHMARKS)] = Field(
        None, description="Measure as a published benchmark does, on its data in the layout of its archive."
    )
    flip: bool = Field(
        False, description="Add the embedding of the mirrored face, as published figures often do."
    )
    vlr_size: int = Field(ge=4, le=112, description="Side of the low-resolution faces, in pixels.")
    dsr: Path | None = Field(None, description="Super-resolution network: a run folder or a weight file.")
    self_ensemble: bool = Field(
        False, description="Average with what the DSR makes of the mirrored face: twice the time."
    )
    matrix: tuple[Path, ...] = Field(
        (),
        description="Super-resolution networks to measure on every degradation and VLR size, besides --dsr.",
    )
    dsr_outputs: Path | None = Field(None, description="Or what `dsrface precompute` made with one.")
    recogniser: Path | None = Field(
        None,
        description="Frozen recogniser, as before fine-tuning; by default what `finetuned` started from, and "
        "without that the judge, where it is installed.",
    )
    finetuned: Path | None = Field(
        None, description="Recogniser after `dsrface finetune`: run folder or file."
    )
    pairs: Path | None = Field(
        None, description="pairs.txt as LFW has it; by default pairs are generated from the split."
    )
    split: Literal["train", "val", "test"] = Field(
        "test", description="Split to measure on; models and thresholds were chosen on the other two."
    )
    out: Path | None = Field(
        None, description="Folder of the report; unset: runs/evaluate/<UTC time>-<hash>."
    )
    bootstrap: int = Field(
        1000, ge=0, description="Draws of persons for the 95 % intervals; 0 leaves them out."
    )
    max_pairs: int = Field(
        200_000, ge=100, description="Pairs at most for error rates, when pairs are generated."
    )
    fars: tuple[float, ...] = Field(
        (0.1, 0.01, 0.001, 0.0001), description="False-accept rates to report the true-accept rate at."
    )
    seed: int = Field(0, ge=0, description="Seed of pairs, gallery and bootstrap.")
    batch_size: int = Field(64, ge=1, le=1_048_576, description="Batch size of the forward passes.")
    workers: Workers = Field(
        "auto", description="Processes that read images; auto starts none for fewer than 2000 images."
    )
    device: Device = "auto"
    amp: Amp = Field(
        "fp32",
        description="Mixed-precision dtype of the forward passes; fp32 keeps figures alike between machines.",
    )

    @field_validator("fars")
    @classmethod
    def _rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < far < 1 for far in value):
            raise ValueError("each rate must be between 0 and 1, and one at least be given")
        return tuple(sorted(set(value), reverse=True))

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data set; benchmarks make their VLR faces themselves."""
        has_own_faces = self.pairs is not None and self.pairs.suffix.lower() == ".bin"
        return [] if self.protocol or has_own_faces else [(self.data, self.vlr_size)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dsr is not None and self.dsr_outputs is not None:
            raise ValueError("give --dsr or --dsr-outputs, not both")
        if self.protocol is not None and self.dsr_outputs is not None:
            raise ValueError("a benchmark takes a network with --dsr, not --dsr-outputs")
        return self
