"""What a benchmark run found, as values: for the terminal and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dsrface.commands.evaluate.result import Cell, Comparison, plain_values
from dsrface.commands.shared.result import CommandResult
from dsrface.metrics.bootstrap import Estimate

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SearchFigures:
    """One search with one kind of image and one recogniser.

    Args:
        search: Title of the search; may be empty.
        images: Kind of the native or reduced faces: `bicubic` or `DSR`.
        recogniser: `frozen`, `fine-tuned` or `raw pixels`.
        num_gallery: Images in the gallery.
        num_known: Probes of persons in the gallery.
        num_unknown: Probes of others.
        ranks: Rank to the share of known probes found among the first so many.
        tpirs: False-positive identification rate to the share found and accepted; without value where there
            are too few unknown probes.
    """

    search: str
    images: str
    recogniser: str
    num_gallery: int
    num_known: int
    num_unknown: int
    ranks: dict[int, Estimate]
    tpirs: dict[float, Estimate] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name, e.g. `DSR + frozen`."""
        return f"{self.images} + {self.recogniser}"


@dataclass(frozen=True)
class BenchmarkResult(CommandResult):
    """What `evaluate --protocol` says and where it put it.

    Args:
        protocol: Name of the benchmark.
        data: Where it is.
        vlr_size: Side that HR faces were reduced to, in pixels; None for native faces.
        native_px: Side that native faces were brought to for the DSR, to how many; at 112 px it is not used.
        num_faces: Images that were embedded.
        num_persons: Persons that the figures come from; distractors are none of them.
        num_genuine: Pairs of one person; 0 without verification.
        num_impostor: Pairs of two persons.
        networks: Role to name, path and SHA-256.
        searches: Identification.
        cells: Verification.
        comparisons: Paired differences.
        limits: What the figures do not show.
        bad_images: Images that could not be used, with the reason.
        settings: Seed, draws, flip, device.
    """

    protocol: str
    data: str
    vlr_size: int | None
    native_px: dict[int, int]
    num_faces: int
    num_persons: int
    num_genuine: int
    num_impostor: int
    networks: dict[str, dict[str, str]]
    searches: tuple[SearchFigures, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    limits: tuple[str, ...]
    bad_images: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document; what is not finite becomes None, which JSON has."""
        return {"schema_version": SCHEMA_VERSION, **plain_values(asdict(self))}
