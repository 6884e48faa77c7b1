"""Configuration of `dsrface cache ls|verify|gc`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from dsrface.config.sources import Config


class CacheConfig(Config):
    """Look at packed caches, check their bytes, or delete what killed runs have left."""

    command: ClassVar[str] = "cache"
    reads: ClassVar[Mapping[str, str]] = {"path": "no-cache"}
    looks: ClassVar[Mapping[str, str]] = {"path": "dsrface.data.outputs.find:check_caches"}

    action: Literal["ls", "verify", "gc"] = Field(description="What to do with every cache below `path`.")
    path: Path = Field(description="A cache folder, or any folder above some.")
    sample: float = Field(
        1.0, gt=0, le=1, description="verify: share of the records to read, drawn at random."
    )
    dry_run: bool = Field(False, description="gc: say what would be deleted, delete nothing.")
