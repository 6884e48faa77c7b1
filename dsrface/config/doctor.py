"""Configuration of `dsrface doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from dsrface.config.sources import Config


class DoctorConfig(Config):
    """Find out what DataLoader workers will do, before the job runs."""

    command: ClassVar[str] = "doctor"

    data: Path | None = Field(None, description="Data set of dsrface to examine; needs `purpose`.")
    purpose: Literal["train-dsr", "precompute", "finetune"] | None = Field(
        None, description="Build the data set as this command does with its defaults (--for)."
    )
    vlr_size: int | None = Field(
        None, ge=1, description="Side of the VLR faces in pixels; unset: the smallest."
    )
    dataset: str | None = Field(
        None, description="Any PyTorch Dataset: package.module:callable or path/file.py:callable."
    )
    dataset_args: str | None = Field(
        None, description="Arguments of that callable as JSON: an object (by name) or a list."
    )
    batch_size: int | None = Field(
        None, ge=1, description="Items a batch; unset: what the data set says, else 32."
    )
    start_method: Literal["auto", "fork", "spawn", "forkserver", "all"] = Field(
        "auto", description="How workers are started; auto is what this Python does, all proves each."
    )
    workers: int | None = Field(
        None, ge=0, description="Judge a launch with this many workers; unset: recommend a number."
    )
    budget_s: float = Field(
        30.0,
        gt=0,
        description="Seconds for the whole; the timing of settings gets what is left, none below 4.",
    )
    step_ms: float | None = Field(
        None, gt=0, description="Milliseconds the device needs for a batch; sets the rate to keep up with."
    )
    consumer_rate: float | None = Field(
        None, gt=0, description="Items per second the training step takes, instead of step_ms."
    )
    world_size: int | None = Field(
        None, ge=1, description="Processes on this machine that load data; unset: LOCAL_WORLD_SIZE or 1."
    )
    strict: bool = Field(False, description="Warnings count as failures.")
    output: Path | None = Field(
        None,
        description="Also write the report to this file, as JSON; of --scan as SARIF when it ends in .sarif.",
    )
    only: tuple[str, ...] = Field((), description="Make only these checks, by id or prefix such as `ds.`.")
    skip: tuple[str, ...] = Field((), description="Leave out these checks, by id or prefix.")
    probe: bool = Field(True, description="Start real workers; false looks only.")
    launch: tuple[str, ...] = Field(
        (), description="Command whose DataLoaders to examine, in its own processes: the words after --."
    )
    loaders: int = Field(1, ge=1, description="DataLoaders of `launch` to examine, as they come.")
    steps: int = Field(
        10, ge=2, description="Training steps of `launch` to time before a loader is examined."
    )
    go_on: bool = Field(
        False, description="Let the command of `launch` go on afterwards instead of ending it (--continue)."
    )
    prove: bool = Field(
        False,
        description="Run `launch` with its present and its recommended settings in turn; give the gain.",
    )
    write_patch: Path | None = Field(
        None,
        description="Write the settings recommended for `launch` to this file, as a patch of the source.",
    )
    scan: tuple[Path, ...] = Field(
        (), description="Read these source files and folders, run nothing, and find what breaks workers."
    )
    attach: int | None = Field(
        None, ge=1, description="Say what the DataLoaders of this running process wait for."
    )
    explain: str | None = Field(None, description="Explain this check, and do nothing else.")
    allow_cuda: bool = Field(False, description="Let the data set see CUDA devices while it is examined.")

    @field_validator("budget_s", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return value.removesuffix("s") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scan and (self.data is not None or self.dataset is not None):
            raise ValueError("--scan reads sources and examines no data set")
        if self.launch and (self.data is not None or self.dataset is not None or self.scan):
            raise ValueError("a command to launch stands alone, without DATA, --dataset or --scan")
        if self.prove and (not self.launch or self.go_on):
            raise ValueError("--prove needs a command to launch, and ends it: leave --continue out")
        if self.data is not None and self.dataset is not None:
            raise ValueError("give DATA with --for, or --dataset, not both")
        if (self.data is None) != (self.purpose is None):
            raise ValueError("DATA and --for go together")
        if self.dataset_args is not None and self.dataset is None:
            raise ValueError("--dataset-args belongs to --dataset")
        if self.step_ms is not None and self.consumer_rate is not None:
            raise ValueError("give --step-ms or --consumer-rate, not both")
        return self
