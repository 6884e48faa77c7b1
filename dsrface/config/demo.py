"""Configuration of `dsrface demo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from dsrface.config.fields import Device, VlrSize
from dsrface.config.sources import Config


class DemoConfig(Config):
    """The whole pipeline on drawn faces, small enough for two cores and a few minutes."""

    command: ClassVar[str] = "demo"
    goes_on: ClassVar[bool] = True
    looks: ClassVar[Mapping[str, str]] = {"out": "dsrface.data.synthetic.demo_folder:check_demo_folder"}
    fills: ClassVar[tuple[str, ...]] = ("out",)

    out: Path = Field(Path("dsrface-demo"), description="Folder for photos, data set, runs and report.")
    seed: int = Field(0, ge=0, description="Fixes the faces, the split, the weights and the order.")
    device: Device = "auto"
    vlr_size: VlrSize = Field(16, description="Side of the low-resolution faces, in pixels.")
    num_persons: int = Field(70, ge=20, description="Persons to draw; 20 % each go to val and test.")
    images_per_person: int = Field(10, ge=4, description="Images of each person.")
    dsr_epochs: int = Field(8, ge=1, le=1_000_000, description="Epochs of the super-resolution network.")
    start_epochs: int = Field(
        6, ge=1, description="Epochs of the recogniser on HR faces, which is where fine-tuning starts."
    )
    finetune_epochs: int = Field(3, ge=1, le=1_000_000, description="Epochs of fine-tuning on DSR outputs.")
