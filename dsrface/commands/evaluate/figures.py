"""From measured images and pairs to figures with intervals, and to differences between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.evaluate.images import Measured
from dsrface.commands.evaluate.result import (
    BICUBIC,
    DSR,
    FROZEN,
    HR,
    RAW,
    TUNED,
    Accuracy,
    Cell,
    Comparison,
    Gallery,
    Histogram,
    Identification,
    Quality,
    TarAtFar,
    Verdict,
)
from dsrface.config.catalogue import PROTOCOLS
from dsrface.data.pairs import Pairs, both_ways
from dsrface.errors import DataError
from dsrface.metrics.bootstrap import Estimate, difference, estimate, mean_draws, verification_draws
from dsrface.metrics.identification import enrol, open_set_hits, rank_hits, search
from dsrface.metrics.verification import Roc, Trials, d_primes, far_support, lfw_accuracy, roc

FPIR = 0.1
_LOWER_IS_BETTER = ("eer",)
_ROC_POINTS = 200
_BINS = 48
_CHUNK = 16_384
_MIN_GALLERY_FOR_RANK_5 = 10

Draws = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Scored:
    """Every cell with its bootstrap draws, so that differences can be paired.

    Args:
        cells: In the order of the table.
        draws: Cell to metric to values.
        num_persons: Persons in the pairs.
    """

    cells: tuple[Cell, ...]
    draws: dict[tuple[str, str, str], Draws]
    num_persons: int = 0

    def compare(self, first: Cell, second: Cell, metric: str) -> Comparison:
        """Return `first` minus `second`, paired."""
        values = [_value(getattr(cell, metric)) for cell in (first, second)]
        draws = [self.draws[_key(cell)][metric] for cell in (first, second)]
        found = difference(values[0], values[1], draws[0], draws[1], num_persons=self.num_persons)
        return Comparison(first.name, second.name, first.protocol, metric, found, verdict(found, metric))


def score_cells(
    measured: Measured,
    pairs: Pairs,
    folds: Pairs | None,
    *,
    persons: NDArray[np.int64],
    counts: NDArray[np.uint16],
    fars: Sequence[float],
) -> Scored:
    """Return verification figures for every protocol, kind of image and recogniser.

    Args:
        measured: Embeddings.
        pairs: Pairs for error rates.
        folds: Pairs for accuracy; None leaves it out.
        persons: Person of each image.
        counts: Bootstrap draws of persons.
        fars: False-accept rates.
    """
    cells: list[Cell] = []
    all_draws: dict[tuple[str, str, str], Draws] = {}
    for protocol, images, left, right, recogniser in _plan(measured):
        features = (measured.features[left, recogniser], measured.features[right, recogniser])
        asked, asked_folds = pairs, folds
        if left != right:  # both ways: which image of a pair is the VLR one is an accident of the list
            asked, asked_folds = both_ways(pairs), None if folds is None else both_ways(folds)
        cell, draws = score_cell(
            (protocol, images, recogniser),
            features,
            asked,
            asked_folds,
            persons=persons,
            counts=counts,
            fars=fars,
            num_impostor=pairs.num_impostor,
        )
        cells.append(cell)
        all_draws[_key(cell)] = draws
    num_persons = len(np.union1d(persons[pairs.first], persons[pairs.second]))
    return Scored(tuple(cells), all_draws, num_persons)


def score_cell(
    key: tuple[str, str, str],
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
    pairs: Pairs,
    folds: Pairs | None,
    *,
    persons: NDArray[np.int64],
    counts: NDArray[np.uint16],
    fars: Sequence[float],
    num_impostor: int,
) -> tuple[Cell, Draws]:
    """Return verification figures of one way to compare pairs, and their bootstrap draws.

    Args:
        key: Protocol, kind of image and recogniser.
        features: Embeddings [n, d] that the first and the second of a pair index.
        pairs: Pairs for error rates.
        folds: Pairs for accuracy; None leaves it out.
        persons: Person of each row.
        counts: Bootstrap draws of persons.
        fars: False-accept rates.
        num_impostor: Independent impostor pairs, which say what a rate is worth.
    """
    first, second = persons[pairs.first], persons[pairs.second]
    num_persons = len(np.union1d(first, second))
    scores = cosines(*features, pairs)
    trials = Trials(scores, pairs.is_same)
    accepted = trials.accepted()
    values = {
        "eer": float(accepted.eer()[0]),
        "auc": float(accepted.auc()[0]),
        "d_prime": float(d_primes(trials, np.ones((1, len(trials))))[0]),
    }
    values |= {f"tar@{far:g}": float(accepted.tar_at_far(far)[0]) for far in fars}
    draws = verification_draws(trials, first, second, counts, fars=fars)
    figures = {name: estimate(value, draws[name], num_persons=num_persons) for name, value in values.items()}
    protocol, images, recogniser = key
    cell = Cell(
        protocol=protocol,
        images=images,
        recogniser=recogniser,
        eer=figures["eer"],
        auc=figures["auc"],
        d_prime=figures["d_prime"],
        tars=tuple(_tar(far, figures[f"tar@{far:g}"], num_impostor) for far in fars),
        accuracy=None if folds is None else _accuracy(cosines(*features, folds), folds),
        roc=_curve(roc(scores, pairs.is_same)),
        histogram=_histogram(scores, pairs.is_same),
    )
    return cell, draws


def compare_cells(scored: Scored) -> tuple[Comparison, ...]:
    """Return DSR minus bicubic for every recogniser, fine-tuned minus frozen for every kind of image."""
    found = []
    by_key = {_key(cell): cell for cell in scored.cells}
    for cell in scored.cells:
        for rival in rivals(cell.images, cell.recogniser):
            other = by_key.get((cell.protocol, *rival))
            if other is not None:
                found += [scored.compare(cell, other, metric) for metric in ("eer", "auc")]
    return tuple(found)


def rivals(images: str, recogniser: str) -> list[tuple[str, str]]:
    """Return the images and recognisers that one is compared with: bicubic for DSR, frozen for fine-tuned."""
    found = [(BICUBIC, recogniser)] if images == DSR else []
    return [*found, (images, FROZEN)] if recogniser == TUNED else found


def image_quality(
    measured: Measured, *, persons: NDArray[np.int64], counts: NDArray[np.uint16]
) -> tuple[tuple[Quality, ...], tuple[Comparison, ...]]:
    """Return mean PSNR, SSIM and PSNR of the luma of each kind of image, and DSR minus bicubic."""
    means: dict[str, dict[str, Estimate]] = {}
    num_persons = len(np.unique(persons))
    for name, table in measured.quality.items():
        for kind, values in table.items():
            drawn = mean_draws(values, persons, counts)
            means.setdefault(kind, {})[name] = estimate(float(values.mean()), drawn, num_persons=num_persons)
    quality = tuple(Quality(kind, **figures) for kind, figures in means.items())
    comparisons = []
    if DSR in means:
        for name, table in measured.quality.items():
            gain = table[DSR] - table[BICUBIC]
            drawn = mean_draws(gain, persons, counts)
            found = estimate(float(gain.mean()), drawn, num_persons=num_persons)
            comparisons.append(Comparison(DSR, BICUBIC, "images", name, found, verdict(found, name)))
    return quality, tuple(comparisons)


def identify(
    measured: Measured, *, persons: NDArray[np.int64], counts: NDArray[np.uint16], seed: int
) -> tuple[Gallery, tuple[Identification, ...]]:
    """Search every VLR probe in a gallery of HR faces of other photos.

    Raises:
        DataError: too few persons for a gallery.
    """
    enrolled = enrol(persons, seed=seed)
    gallery = Gallery(len(enrolled.gallery), len(enrolled.known), len(enrolled.unknown), FPIR)
    owners = persons[enrolled.known]
    found = []
    for kind, recogniser in measured.features:
        enrolled_features = measured.features[HR, recogniser][enrolled.gallery].T
        features = measured.features[kind, recogniser]
        result = search(
            features[enrolled.known] @ enrolled_features,
            features[enrolled.unknown] @ enrolled_features,
            known_persons=owners,
            gallery_persons=persons[enrolled.gallery],
        )
        hits = {"rank1": rank_hits(result, rank=1)}
        if gallery.num_enrolled >= _MIN_GALLERY_FOR_RANK_5:
            hits["rank5"] = rank_hits(result, rank=5)
        with contextlib.suppress(DataError):  # too few unknown probes: the report shows how many there are
            hits["tpir"] = open_set_hits(result, fpir=FPIR)
        rates = {
            name: estimate(
                float(values.mean()),
                mean_draws(values.astype(np.float64), owners, counts),
                num_persons=len(np.unique(owners)),
            )
            for name, values in hits.items()
        }
        found.append(Identification(kind, recogniser, rates["rank1"], rates.get("rank5"), rates.get("tpir")))
    return gallery, tuple(found)


def cosines(first: NDArray[np.float32], second: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float64]:
    """Return the cosine of every pair; a part at a time, since the gathered rows would not fit in memory."""
    scores = np.empty(len(pairs))
    for start in range(0, len(pairs), _CHUNK):
        part = slice(start, start + _CHUNK)
        left, right = first[pairs.first[part]], second[pairs.second[part]]
        scores[part] = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    return scores


def verdict(found: Estimate, metric: str) -> Verdict:
    """Return what a difference shows; nothing when its interval covers 0, or when there is none."""
    if found.low is None:
        return "not judged"
    if found.value is None or found.covers_zero:
        return "no difference shown"
    return "better" if (found.value < 0) == (metric in _LOWER_IS_BETTER) else "worse"


def _plan(measured: Measured) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield protocol, name of the images, kind of the first and of the second image, recogniser."""
    kinds = [kind for kind, recogniser in measured.features if recogniser == RAW and kind != HR]
    roles = list(dict.fromkeys(recogniser for _, recogniser in measured.features if recogniser != RAW))
    for name, protocol in PROTOCOLS.items():
        for recogniser in (*roles, RAW):
            for kind in [HR] if protocol.is_ceiling else kinds:
                first = kind if protocol.has_low_gallery else HR
                second = kind if protocol.has_low_probe else HR
                yield name, kind, first, second, recogniser


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.protocol, cell.images, cell.recogniser


def _value(found: Estimate) -> float:
    return float("nan") if found.value is None else found.value


def _tar(far: float, found: Estimate, num_impostor: int) -> TarAtFar:
    support = far_support(far, num_impostor)
    return TarAtFar(far, Estimate(None) if support == "none" else found, support)


def _accuracy(scores: NDArray[np.float64], folds: Pairs) -> Accuracy | None:
    assert folds.fold is not None
    try:
        found = lfw_accuracy(scores, folds.is_same, folds.fold)
    except DataError:  # a single fold, or pairs of one kind only
        return None
    return Accuracy(found.accuracy, found.std, len(found.per_fold), found.reject_all)


def _curve(found: Roc) -> tuple[tuple[float, float], ...]:
    """Return the step curve at FARs that are evenly spaced on a logarithmic axis."""
    fars = np.unique(np.geomspace(1 / found.num_impostor, 1, _ROC_POINTS))
    # Rounding to whole impostor pairs keeps 1/n from falling just below a rate of 1/n.
    permitted = np.floor(fars * found.num_impostor * (1 + 1e-12)) / found.num_impostor
    last = np.searchsorted(found.far, permitted * (1 + 1e-12), side="right") - 1
    return tuple(
        (round(float(far), 9), round(float(found.tar[k]), 6)) for far, k in zip(fars, last, strict=True)
    )


def _histogram(scores: NDArray[np.float64], is_same: NDArray[np.bool_]) -> Histogram:
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    shares = []
    for side in (is_same, ~is_same):
        counts, _ = np.histogram(scores[side], _BINS, (low, high))
        shares.append(tuple(round(float(share), 6) for share in counts / max(1, side.sum())))
    return Histogram(low, high, shares[0], shares[1])
