"""What an evaluation found, as values: for the terminal, for JSON and for the report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dsrface.commands.shared.result import CommandResult
from dsrface.config.catalogue import MAIN_PROTOCOL
from dsrface.metrics.bootstrap import Estimate
from dsrface.metrics.thresholds import Threshold
from dsrface.types import HIGH_SIZE_PX

SCHEMA_VERSION = 1
HR, BICUBIC, DSR = "HR", "bicubic", "DSR"  # kinds of images
# Recognisers; the last two are references, which take no part in who wins.
FROZEN, TUNED, JUDGE, RAW = "frozen", "fine-tuned", "judge", "raw pixels"
REFERENCES = (JUDGE, RAW)
Verdict = Literal["better", "worse", "no difference shown", "not judged"]


@dataclass(frozen=True)
class TarAtFar:
    """True-accept rate at a false-accept rate.

    Args:
        far: At most this share of impostor pairs is accepted.
        tar: Share of genuine pairs accepted; without value when there are too few impostor pairs.
        support: `none` below 3 / far impostor pairs, `weak` below 30 / far, else `good`.
    """

    far: float
    tar: Estimate
    support: str


@dataclass(frozen=True)
class Accuracy:
    """Cross-validated accuracy, with what rejecting every pair would have earned.

    Args:
        mean: Over folds, in [0, 1].
        std: Over folds.
        num_folds: Folds.
        reject_all: Accuracy of rejecting every pair.
    """

    mean: float
    std: float
    num_folds: int
    reject_all: float


@dataclass(frozen=True)
class Histogram:
    """Scores of genuine and impostor pairs over equal bins.

    Args:
        low: Left edge of the first bin.
        high: Right edge of the last.
        genuine: Share of the genuine pairs in each bin.
        impostor: Share of the impostor pairs.
    """

    low: float
    high: float
    genuine: tuple[float, ...]
    impostor: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """One recogniser on one kind of image.

    Args:
        protocol: What is compared: key of `PROTOCOLS`.
        images: What stands for the VLR face: `bicubic` or `DSR`; `HR` in the ceiling.
        recogniser: `frozen`, `fine-tuned` or `raw pixels`.
        eer: Equal error rate, in [0, 1].
        auc: Area under the ROC curve, in [0, 1].
        d_prime: Distance of both score distributions.
        tars: True-accept rates.
        accuracy: By folds; None when there are too few.
        roc: (FAR, TAR) points of the step curve, FAR ascending.
        histogram: Of the scores.
    """

    protocol: str
    images: str
    recogniser: str
    eer: Estimate
    auc: Estimate
    d_prime: Estimate
    tars: tuple[TarAtFar, ...]
    accuracy: Accuracy | None
    roc: tuple[tuple[float, float], ...]
    histogram: Histogram

    @property
    def name(self) -> str:
        """Short name, e.g. `DSR + frozen`."""
        return f"{self.images} + {self.recogniser}"


@dataclass(frozen=True)
class HeldThreshold:
    """A threshold that validation persons chose, and what it does on the split that is measured.

    Args:
        images: Kind of VLR image, compared with HR ones.
        recogniser: As in `Cell`.
        chosen: The threshold and where it was chosen.
        far: Share of impostor pairs that it accepts here.
        tar: Share of genuine pairs that it accepts here.
    """

    images: str
    recogniser: str
    chosen: Threshold
    far: Estimate
    tar: Estimate


@dataclass(frozen=True)
class Comparison:
    """A paired difference between two figures, from the same pairs and the same draws of persons.

    Args:
        first: What is compared.
        second: With what.
        protocol: As in `Cell`; `images` for image quality.
        metric: `eer`, `auc`, `psnr_db`, `ssim` or `psnr_y_db`.
        difference: First minus second.
        verdict: On `first`; "no difference shown" when the interval covers 0, "not judged" without one.
    """

    first: str
    second: str
    protocol: str
    metric: str
    difference: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class Quality:
    """Image quality against the HR face, mean over images.

    Args:
        images: `bicubic` or `DSR`.
        psnr_db: Mean of the images' PSNR.
        ssim: Mean of the images' SSIM.
        psnr_y_db: Mean of the PSNR of their luma, as published tables have it.
    """

    images: str
    psnr_db: Estimate
    ssim: Estimate
    psnr_y_db: Estimate


@dataclass(frozen=True)
class Identification:
    """Search in a gallery of HR faces.

    Args:
        images: Kind of probe.
        recogniser: As in `Cell`.
        rank1: Share of known probes found first, in [0, 1].
        rank5: Among the first five; None in galleries below ten.
        tpir: Share found first and accepted, at `fpir`; None with too few unknown probes.
    """

    images: str
    recogniser: str
    rank1: Estimate
    rank5: Estimate | None
    tpir: Estimate | None


@dataclass(frozen=True)
class Gallery:
    """Sizes of the search.

    Args:
        num_enrolled: Persons in the gallery, one image each.
        num_known: Probes of enrolled persons; never the enrolled photo.
        num_unknown: Probes of others.
        fpir: False-positive identification rate of `Identification.tpir`.
    """

    num_enrolled: int
    num_known: int
    num_unknown: int
    fpir: float


@dataclass(frozen=True)
class Overlap:
    """What a network's training data share with the split.

    Args:
        network: Its role: `DSR`, `frozen` or `fine-tuned`.
        is_recorded: Whether its run has recorded what it was trained on.
        images: Images of the split with the pixels of a training image.
        persons: Persons of the split with the name of a training person.
        copies: Further images of the split that look like copies of training images.
        has_looks: Whether copies were looked for.
    """

    network: str
    is_recorded: bool
    images: int = 0
    persons: int = 0
    copies: int = 0
    has_looks: bool = False


@dataclass(frozen=True)
class MatrixCell:
    """A super-resolution network on one degradation and size.

    Args:
        network: As it was named.
        trained_on: Degradation and size that it was trained for.
        degradation: That it is tested on.
        size_px: That it is tested on.
        gain_db: Mean PSNR gain over bicubic on the same images.
    """

    network: str
    trained_on: str
    degradation: str
    size_px: int
    gain_db: Estimate


@dataclass(frozen=True)
class Counts:
    """What was measured on.

    Args:
        images: Images.
        persons: Persons.
        genuine: Pairs of one person.
        impostor: Pairs of two persons.
        pairs_from: Where the pairs come from, in words.
        folds_from: Where the folds of the accuracy come from; empty without folds.
    """

    images: int
    persons: int
    genuine: int = 0
    impostor: int = 0
    pairs_from: str = ""
    folds_from: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found.

    Args:
        headline: The answer in a sentence.
        details: Further sentences.
        limits: What these figures do not show.
        data: Folder of the data set.
        split: Its split.
        vlr_size: Side of the VLR faces, in pixels.
        counts: What was measured on.
        networks: Role to path and SHA-256.
        quality: Image quality.
        cells: Verification.
        thresholds: Chosen on validation persons, applied here; empty where they are too few.
        comparisons: Paired differences.
        gallery: Sizes of the search; None without one.
        identification: Search.
        winner: Name of the best HR-LR cell; of the best images without recognisers; empty without
            figures.
        settings: Seed, bootstrap draws, device.
        overlaps: What each network's training data share with the split.
        matrix: Super-resolution networks on every degradation and size; empty unless asked for.
        high_size: Side of the HR faces, in pixels.
    """

    headline: str
    details: tuple[str, ...]
    limits: tuple[str, ...]
    data: str
    split: str
    vlr_size: int
    counts: Counts
    networks: dict[str, dict[str, str]]
    quality: tuple[Quality, ...]
    cells: tuple[Cell, ...]
    thresholds: tuple[HeldThreshold, ...]
    comparisons: tuple[Comparison, ...]
    gallery: Gallery | None
    identification: tuple[Identification, ...]
    winner: str
    settings: dict[str, Any] = field(default_factory=dict)
    overlaps: tuple[Overlap, ...] = ()
    matrix: tuple[MatrixCell, ...] = ()
    high_size: int = HIGH_SIZE_PX

    @property
    def main_cells(self) -> tuple[Cell, ...]:
        """VLR probes against an HR gallery: what the answer is about."""
        return tuple(cell for cell in self.cells if cell.protocol == MAIN_PROTOCOL)

    @property
    def lowest_far(self) -> float | None:
        """The lowest false-accept rate that there are enough impostor pairs for."""
        rates = [item.far for item in self.cells[0].tars if item.support != "none"] if self.cells else []
        return min(rates, default=None)

    @property
    def reject_all(self) -> float | None:
        """Accuracy of rejecting every pair, in [0, 1]; None without accuracy by folds."""
        return next((cell.accuracy.reject_all for cell in self.cells if cell.accuracy is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; what is not finite becomes None, which JSON has."""
        return {"schema_version": SCHEMA_VERSION, **plain_values(asdict(self))}


@dataclass(frozen=True)
class EvaluateResult(CommandResult):
    """What `evaluate` says and where it put it.

    Args:
        evaluation: Everything else.
    """

    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `--json`."""
        facts = {"summary": self.summary, "location": self.location, "next_command": self.next_command}
        return facts | self.evaluation.to_dict()


def plain_values(value: Any) -> Any:
    """Return lists for tuples and None for what is not finite, in nested values, as JSON wants them."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
