"""Types of values that several commands take, with their bounds and meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import CoreSchema, core_schema

from dsrface.config.sources import Config

Amp = Literal["auto", "fp32", "bf16", "fp16"]


_CALLED_CUDA = ("gpu", "nvidia", "rocm", "amd")


def _known_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        meant = "; did you mean cuda?" if name.lower() in _CALLED_CUDA else ""
        raise ValueError(
            f"must be auto, cpu, cuda or cuda:N (a GPU of NVIDIA or AMD), or mps (of Apple){meant}"
        )
    return name


def must_end_in(ending: str, path: Path) -> str:
    """Return what is wrong with the name of a file to write, and the one that was probably meant."""
    return f"end in {ending}; did you mean {path.with_suffix(ending)}?"


Device = Annotated[str, AfterValidator(_known_device), Field(description="auto, cpu, cuda, cuda:N or mps.")]
VlrSize = Literal[16, 24, 32]
HighSize = Literal[112, 128]
Workers = Annotated[int, Field(ge=0, le=4096)] | Literal["auto"]
# Of `together` and `looks`.
EARLY = "dsrface.commands.shared.early"
PHOTOS, ONE_PHOTO = (f"dsrface.data.photos.given:{name}" for name in ("check_photos", "check_one_photo"))


@dataclass(frozen=True)
class OneOf:
    """Annotation of a text that is a key of a catalogue.

    Args:
        catalogue: Its keys are read when the configuration is defined.
        prefix: Texts that start with it are taken as well, e.g. `timm:`; empty for none.
    """

    catalogue: Mapping[str, Any]
    prefix: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Accept the keys, and None where the field does, and say so in the JSON schema."""
        del handler
        keys: CoreSchema = core_schema.literal_schema(list(self.catalogue))
        if self.prefix:
            known = ", ".join(map(repr, self.catalogue))
            keys = core_schema.union_schema(
                [keys, core_schema.str_schema(pattern=f"^{re.escape(self.prefix)}.+")],
                custom_error_type="unknown_name",
                custom_error_message=f"should be {self.prefix}NAME or one of: {known}",
            )
        return keys if source is str else core_schema.nullable_schema(keys)


class GeometryConfig(Config):
    """How far a face may be moved; drawn per sample."""

    flip: float = Field(0.5, ge=0, le=1, description="Probability of a left-right flip.")
    rotate_deg: float = Field(5.0, ge=0, le=45, description="Largest rotation, in degrees, either way.")
    scale: float = Field(0.05, ge=0, lt=1, description="Largest change of size, as a fraction.")
    shift_px: float = Field(4.0, ge=0, description="Largest shift, in pixels of the 112x112 image.")
