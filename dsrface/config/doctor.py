"""Configuration of `dsrface doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from dsrface.config.fields import must_end_in
from dsrface.config.sources import Config
from dsrface.runtime.command_line import joined


class DoctorConfig(Config):
    """Find out what DataLoader workers will do, before the job runs."""

    command: ClassVar[str] = "doctor"
    reads: ClassVar[Mapping[str, str]] = {"data": "no-data-set"}
    writes: ClassVar[tuple[str, ...]] = ("output", "html", "write_patch")
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What to examine": ("dataset", "dataset_args", "purpose", "scan", "attach", "explain"),
        "How it will be used": ("batch_size", "workers", "start_method", "step_ms"),
        "A launch: -- COMMAND": ("prove", "write_patch", "go_on"),
        "Time and report": ("budget_s", "html", "output", "strict"),
    }

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data set of dsrface, where a size is given."""
        return [(self.data, self.vlr_size)] if self.data is not None and self.vlr_size is not None else []

    data: Path | None = Field(None, description="Data set of dsrface to examine; needs `purpose`.")
    purpose: Literal["train-dsr", "precompute", "finetune"] | None = Field(
        None, description="Build DATA as this command does by default: train-dsr, precompute or finetune."
    )
    vlr_size: int | None = Field(
        None, ge=1, description="Side of the VLR faces in pixels; unset: the smallest."
    )
    dataset: str | None = Field(
        None, description="Any PyTorch Dataset: package.module:callable or FILE.py:callable."
    )
    python: Path | None = Field(
        None,
        description="Python of the project, for --dataset or a notebook; it need not have dsrface.",
    )
    dataset_args: str | None = Field(
        None, description="Its arguments as JSON: an object (by name) or a list."
    )
    batch_size: int | None = Field(
        None, ge=1, description="Batch size; unset: as the data set says, else 32."
    )
    start_method: Literal["auto", "fork", "spawn", "forkserver", "all"] = Field(
        "auto", description="How workers start: auto (as this Python does), fork, spawn, forkserver, or all."
    )
    workers: int | None = Field(None, ge=0, description="Judge this number; unset: recommend one.")
    budget_s: float = Field(
        30.0,
        gt=0,
        description="Seconds for the whole; what is left goes into timing.",
    )
    step_ms: float | None = Field(
        None, gt=0, description="Milliseconds of a training step: the rate to keep up with."
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
        description="Also write the report as JSON; of --scan as SARIF to a .sarif file.",
    )
    html: Path | None = Field(None, description="Also write the report as a page that holds everything.")
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
    go_on: bool = Field(False, description="Let the command go on afterwards instead of ending it.")
    prove: bool = Field(
        False,
        description="Run it with its present and the recommended settings in turn; give the gain.",
    )
    write_patch: Path | None = Field(
        None,
        description="Write the recommended settings to this file, as a patch of the source.",
    )
    scan: tuple[Path, ...] = Field(
        (), description="Read these sources, run nothing, find what breaks workers."
    )
    attach: int | None = Field(None, ge=1, description="Say what the DataLoaders of this process wait for.")
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
        if self.html is not None and self.html.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--html must {must_end_in('.html', self.html)}")
        if self.html and (self.scan or self.attach or self.explain):
            raise ValueError("--html belongs to an examination, not to --scan, --attach or --explain")
        if self.launch and self.scan and all(Path(word).exists() for word in self.launch):
            paths = joined(word for path in (*self.scan, *self.launch) for word in ("--scan", str(path)))
            raise ValueError(f"--scan takes one path; repeat it: {paths}")
        if self.launch and (self.data is not None or self.dataset is not None or self.scan):
            raise ValueError("a command to launch stands alone: leave out DATA, --dataset and --scan")
        of_a_launch = {"--prove": self.prove, "--continue": self.go_on, "--write-patch": self.write_patch}
        for flag, is_given in of_a_launch.items():
            if is_given and not self.launch:
                raise ValueError(f"{flag} needs a command to launch, after --")
        if self.prove and self.go_on:
            raise ValueError("--prove and --continue: give one of them")
        if self.output is not None and self.output.suffix == ".html":
            raise ValueError("--output writes JSON; the page is --html FILE")
        if self.data is not None and self.dataset is not None:
            raise ValueError("give DATA with --for, or --dataset, not both")
        if (self.data is None) != (self.purpose is None):
            raise ValueError("DATA and --for go together: dsrface doctor DATA --for train-dsr")
        is_notebook = bool(self.launch) and self.launch[0].endswith(".ipynb")
        if self.python is not None and self.dataset is None and not is_notebook:
            raise ValueError("--python belongs to --dataset or a notebook; a command names its own Python")
        if self.dataset_args is not None and self.dataset is None:
            raise ValueError("--dataset-args belongs to --dataset")
        if self.step_ms is not None and self.consumer_rate is not None:
            raise ValueError("give --step-ms or --consumer-rate, not both")
        return self
