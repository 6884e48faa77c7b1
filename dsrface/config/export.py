"""Configuration of `dsrface export`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsrface.config.fields import EARLY, must_end_in
from dsrface.config.sources import Config


class ExportConfig(Config):
    """Write a trained network as one file for use elsewhere, and prove that the file computes the same."""

    command: ClassVar[str] = "export"
    reads: ClassVar[Mapping[str, str]] = {"data": "no-data-set"}
    networks: ClassVar[Mapping[str, str]] = {"source": ""}
    writes: ClassVar[tuple[str, ...]] = ("out",)
    together: ClassVar[tuple[str, ...]] = (f"{EARLY}:check_pixels",)

    source: Path = Field(
        description="Run folder, checkpoint folder or weight file, of a DSR or a recogniser."
    )
    format: Literal["onnx", "safetensors"] = Field(
        "safetensors",
        description="onnx: a graph for other runtimes; safetensors: weights with their metadata. "
        "Where it is not given, `out` decides by how it ends.",
    )
    out: Path | None = Field(
        None,
        description="File to write; unset: `export/<kind>.<format>` in the run folder.",
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32",
        description="onnx: number format inside; int8: static quantisation, calibrated on faces of `data`.",
    )
    pixels: bool = Field(
        False,
        description="onnx, recognisers: the file takes RGB pixels in [0, 255] and normalises them itself.",
    )
    data: Path | None = Field(
        None, description="Data set whose val faces calibrate int8 and judge what fp16 and int8 cost."
    )
    max_eer_loss: float = Field(
        0.005, ge=0, le=1, description="Rise of a recogniser's EER that fp16 or int8 may cost, as a fraction."
    )
    max_psnr_loss_db: float = Field(0.1, ge=0, description="PSNR that fp16 or int8 may cost a DSR, in dB.")
    opset: int = Field(18, ge=18, le=23, description="onnx: operator set version.")
    tolerance: float | None = Field(
        None,
        gt=0,
        description="Largest difference allowed from torch: absolute for images in [0, 1], "
        "relative to the largest value for embeddings. Unset: 1e-4 in fp32, 0.01 in fp16, 0.2 in int8.",
    )
    force: bool = Field(False, description="Overwrite `out` when it exists.")

    def needs(self) -> Iterable[tuple[str, str]]:
        """Return what the format needs."""
        return [(module, "onnx") for module in ("onnx", "onnxscript", "onnxruntime") if self.format == "onnx"]

    def not_yet_there(self) -> Iterable[Path]:
        """Return the result, without a name for it what the run has exported; nothing with --force."""
        if self.force:
            return ()
        return [self.out] if self.out else (self.source / "export").glob(f"*.{self.format}")

    @model_validator(mode="before")
    @classmethod
    def _format_of_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "format" not in given and str(given.get("out") or "").endswith(".onnx"):
            return {**given, "format": "onnx"}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out is not None and self.out.suffix != f".{self.format}":
            raise ValueError(f"--out must {must_end_in(f'.{self.format}', self.out)}")
        if self.format != "onnx" and (self.precision != "fp32" or self.pixels):
            raise ValueError("--precision and --pixels go with --format onnx: add it")
        if (self.precision != "fp32") != (self.data is not None):
            raise ValueError(
                "--precision fp16 and int8 go with --data DATA, a data set of dsrface prepare: its val faces "
                "say what they cost"
            )
        return self

    @property
    def allowed_difference(self) -> float:
        """The tolerance, by precision where none is given."""
        return self.tolerance or {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.2}[self.precision]
