"""The manifest of a packed cache and what it promises. `docs/cache-format.md` is the same for other readers.

manifest.json            written last, see `data.stored`
table-<hash>.safetensors names, persons, labels and input hashes of the images ("rows")
shard-00000.u8           raw uint8 HWC RGB records, one after another
shard-00000.idx          see `index`
shard-00000.json         while unfinished: this shard's entry of the manifest to come
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from dsrface.data import draws
from dsrface.data.stored import MANIFEST, PLAN, SCHEMA_VERSION, check_own_hash, check_schema, damaged
from dsrface.errors import RunError
from dsrface.runtime.files import read_json, sha256_json

FORMAT = "dsrface-cache"
HASH_BYTES = 16
_OWN_NAME = re.compile(r"shard-\d{5,9}\.u8|table-[0-9a-f]{12}\.safetensors")  # nothing outside the folder
_Count = Annotated[int, Field(ge=0, le=1 << 48)]
_Side = Annotated[int, Field(ge=1, le=1 << 16)]


@dataclass(frozen=True)
class Segment:
    """Records that were planned together: a range of images in a range of variants.

    A first build is one segment; new images or further variants are appended as one more.
    """

    first_row: _Count
    num_rows: _Count
    first_variant: _Count
    num_variants: _Count


@dataclass(frozen=True)
class Part:
    """Images of one split, which are neighbours in the table.

    Args:
        name: The split.
        first_row: Its first image in the table.
        num_rows: How many there are.
        names_sha256: Over their packed names, to recognise the same split without comparing name by name.
    """

    name: str
    first_row: _Count
    num_rows: _Count
    names_sha256: str


@dataclass(frozen=True)
class Shard:
    """One finished shard.

    Args:
        file: Name of the `.u8` file.
        segment: Position of its segment in the manifest.
        variant: All its records are this variant of their images.
        count: Records in it.
        sha256: Of the `.u8` file.
        index_sha256: Of the `.idx` file.
    """

    file: str
    segment: _Count
    variant: _Count
    count: _Count
    sha256: str
    index_sha256: str

    @property
    def index_file(self) -> str:
        """Name of the `.idx` file."""
        return _beside(self.file, "idx")

    @property
    def entry_file(self) -> str:
        """Name of the file that marks the shard as finished while the cache is not."""
        return _beside(self.file, "json")


@dataclass(frozen=True)
class Manifest:
    """What a cache holds and where it came from.

    Args:
        column: `outputs` or `hr`.
        shape: Height, width and channels of a record; uint8, HWC, RGB.
        num_images: Rows of the table.
        num_variants: Variants of each image.
        shard_images: Records a shard at most.
        order_seed: Fixes the order of the records on disk.
        key: Everything that changes pixels; another value anywhere makes the cache stale.
        table: File name and sha256 of the table.
        segments: What was planned together.
        parts: Which rows belong to which split.
        shards: In the order of the plan; empty in a plan.
        info: Facts to read; not part of the key.
    """

    column: str
    shape: tuple[_Side, _Side, _Side]
    num_images: _Count
    num_variants: _Count
    shard_images: _Count
    order_seed: int
    key: Mapping[str, Any]
    table: Mapping[str, str]
    segments: tuple[Segment, ...]
    parts: tuple[Part, ...]
    shards: tuple[Shard, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def num_records(self) -> int:
        """Records over all variants."""
        return sum(segment.num_rows * segment.num_variants for segment in self.segments)

    @property
    def num_shards(self) -> int:
        """Shards that are called for; `shards` has those that are finished."""
        return sum(-(-item.num_rows // self.shard_images) * item.num_variants for item in self.segments)

    def planned_shards(self) -> Iterator[ShardPlan]:
        """Yield the shards that are called for, in order; the same for every run, so that any can resume.

        Images are shuffled within a segment and variant, so that neighbours on disk are of different persons.
        """
        number = 0
        for position, segment in enumerate(self.segments):
            for variant in range(segment.first_variant, segment.first_variant + segment.num_variants):
                rng = draws.generator(self.order_seed, variant, segment.first_row, "cache-order")
                rows = rng.permutation(segment.num_rows).astype(np.int64) + segment.first_row
                for start in range(0, segment.num_rows, self.shard_images):
                    yield ShardPlan(number, position, variant, rows[start : start + self.shard_images])
                    number += 1

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is stored, its own hash included."""
        raw = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "dtype": "uint8",
            "layout": "HWC",
            "colour": "RGB",
            "record_bytes": self.record_bytes,
            "num_records": self.num_records,
            **asdict(self),
        }
        return {**raw, "manifest_sha256": sha256_json(raw)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], *, where: Path) -> Self:
        """Check and rebuild a manifest.

        Raises:
            RunError: another format, a newer schema, or content that does not match its own hash.
        """
        if raw.get("format") != FORMAT:
            raise RunError(
                "The manifest is not one of a packed cache: "
                f"format is {raw.get('format')!r}, not {FORMAT!r}.",
                id="not-a-cache",
                where=where,
                hint="Another program's file. Move it away, or take another folder.",
            )
        check_schema(raw, where, what="cache")
        check_own_hash(raw, where, repairable=False)
        manifest = TypeAdapter(cls).validate_python({item.name: raw[item.name] for item in fields(cls)})
        names = [str(raw["table"]["file"]), *(shard.file for shard in manifest.shards)]
        foreign = next((name for name in names if not _OWN_NAME.fullmatch(name)), None)
        if foreign is not None:
            raise damaged(f"The manifest names {foreign!r}, which no cache has.", where, repairable=False)
        return manifest


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be: which images in which variant, in which order."""

    number: int
    segment: int
    variant: int
    rows: NDArray[np.int64]

    @property
    def file(self) -> str:
        """Name of the `.u8` file."""
        return f"shard-{self.number:05d}.u8"

    @property
    def files(self) -> tuple[str, str, str]:
        """All names that the shard may have files under."""
        return self.file, _beside(self.file, "idx"), self.entry_file

    @property
    def entry_file(self) -> str:
        """See `Shard.entry_file`."""
        return _beside(self.file, "json")


def read_manifest(folder: Path, *, name: str = MANIFEST) -> Manifest:
    """Read a cache's manifest, or its plan.

    Raises:
        RunError: missing, unfinished, foreign, of a newer schema, or damaged.
    """
    path = folder / name
    if not path.exists():
        if (folder / PLAN).exists():
            raise RunError(
                "The cache is not finished.",
                id="cache-unfinished",
                where=folder,
                hint="Run the same `dsrface precompute` again: it goes on where it stopped.",
            )
        raise RunError(
            "There is no cache here.", id="no-cache", where=folder, hint="Make it with `dsrface precompute`."
        )
    raw = read_json(path)
    try:
        return Manifest.from_json(raw, where=path)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(f"The manifest lacks or misnames a field: {error}.", path, repairable=False) from None


def _beside(file: str, suffix: str) -> str:
    return f"{file.removesuffix('.u8')}.{suffix}"
