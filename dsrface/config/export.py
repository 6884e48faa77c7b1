"""Configuration of `dsrface export`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from dsrface.config.sources import Config


class ExportConfig(Config):
    """Write a trained network as one file for use elsewhere, and prove that the file computes the same."""

    command: ClassVar[str] = "export"

    source: Path = Field(
        description="Run folder, checkpoint folder or weight file, of a DSR or a recogniser."
    )
    format: Literal["onnx", "safetensors"] = Field(
        "safetensors",
        description="onnx: a graph for other runtimes; safetensors: weights with their metadata.",
    )
    out: Path | None = Field(
        None,
        description="File to write; None makes `export/<kind>.<format>` in the run folder.",
    )
    opset: int = Field(18, ge=18, le=23, description="onnx: operator set version.")
    tolerance: float = Field(
        1e-4,
        gt=0,
        description="Largest difference allowed from torch: absolute for images in [0, 1], "
        "relative to the largest value for embeddings.",
    )
    force: bool = Field(False, description="Overwrite `out` when it exists.")
