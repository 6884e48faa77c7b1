"""Configuration of `dsrface embed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsrface.config.fields import EARLY, PHOTOS, Amp, Device, Workers, must_end_in
from dsrface.config.sources import Config


class EmbedConfig(Config):
    """Write the embeddings of a folder of aligned faces."""

    command: ClassVar[str] = "embed"
    reads: ClassVar[Mapping[str, str]] = {"images": "folder-missing"}
    looks: ClassVar[Mapping[str, str]] = {"images": PHOTOS}
    networks: ClassVar[Mapping[str, str]] = {"weights": "recogniser", "dsr": "dsr"}
    writes: ClassVar[tuple[str, ...]] = ("out",)
    together: ClassVar[tuple[str, ...]] = (f"{EARLY}:check_recogniser", f"{EARLY}:check_faces")
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Networks and result": ("weights", "dsr", "out", "normalize"),
        "How it runs": ("on_bad_image", "workers", "device"),
    }

    images: Path = Field(
        description="Folder of 112x112 faces, or one such image; with `dsr`, of aligned faces of any size."
    )
    weights: Path | None = Field(
        None,
        description="Recogniser: a run folder, a weight file or a network of others; unset: the judge.",
    )
    dsr: Path | None = Field(
        None,
        description="Super-resolution network: images of its size go through it; others are brought to that "
        "size or to 112, whichever is nearer.",
    )
    out: Path = Field(description="The .npz file to write.")
    normalize: bool = Field(True, description="Scale each embedding to length 1.")
    on_bad_image: Literal["fail", "skip"] = Field(
        "fail",
        description="fail stops at the first image that cannot be used; skip lists them and goes on.",
    )
    batch_size: int = Field(64, ge=1, le=1_048_576, description="Batch size of the forward passes.")
    workers: Workers = Field("auto", description="Threads that read images; auto takes the free cores.")
    device: Device = "auto"
    amp: Amp = Field(
        "fp32",
        description="Mixed-precision dtype of the forward passes; fp32 keeps files alike between machines.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out.suffix != ".npz":
            raise ValueError(f"--out must {must_end_in('.npz', self.out)}")
        return self
