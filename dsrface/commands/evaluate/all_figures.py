"""Which pairs are compared, and all the figures of one data set."""

from __future__ import annotations

from dataclasses import dataclass

from dsrface.commands.evaluate.figures import Scored, compare_cells, identify, image_quality, score_cells
from dsrface.commands.evaluate.images import Measured, Networks
from dsrface.commands.evaluate.result import Comparison, Counts, Gallery, Identification, Quality
from dsrface.commands.shared.early import pairs_elsewhere
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.layout import FaceSplit
from dsrface.data.pairs import Pairs, all_pairs, generate_pairs
from dsrface.data.pairs_file import read_pairs
from dsrface.errors import DataError
from dsrface.events import Emit, Note
from dsrface.metrics.bootstrap import draw_persons


@dataclass(frozen=True)
class Figures:
    """All figures of one run."""

    quality: tuple[Quality, ...]
    comparisons: tuple[Comparison, ...]
    counts: Counts
    scored: Scored
    gallery: Gallery | None
    identification: tuple[Identification, ...]


def all_figures(
    config: EvaluateConfig,
    split: FaceSplit,
    measured: Measured,
    chosen: tuple[Pairs, Pairs | None] | None,
    emit: Emit,
) -> Figures:
    """Return the figures of quality, verification and identification, and say what there are none of.

    Args:
        config: Complete configuration.
        split: What was measured.
        measured: Embeddings and quality of each image.
        chosen: From `choose_pairs`.
        emit: Takes notes.
    """
    persons = split.labels.numpy()
    draws = draw_persons(len(split.persons), num_draws=config.bootstrap, seed=config.seed)
    quality, comparisons = image_quality(measured, persons=persons, counts=draws)
    counts = Counts(len(split), len(split.persons))
    nothing = Figures(quality, comparisons, counts, Scored((), {}), None, ())
    if chosen is None:
        return nothing
    pairs, folds = chosen
    if pairs.num_genuine in (0, len(pairs)):
        emit(
            Note(
                f"no verification: {pairs.num_genuine} pairs of one person, {pairs.num_impostor} of two; "
                "both kinds are needed",
                is_warning=True,
            )
        )
        return nothing
    emit(Note(f"pairs: {pairs.num_genuine} genuine, {pairs.num_impostor} impostor ({pairs.origin})"))
    scored = score_cells(measured, pairs, folds, persons=persons, counts=draws, fars=config.fars)
    gallery: Gallery | None = None
    found: tuple[Identification, ...] = ()
    try:
        gallery, found = identify(measured, persons=persons, counts=draws, seed=config.seed)
    except DataError as error:
        emit(Note(f"no identification: {error.message}"))
    counts = Counts(
        len(split),
        len(split.persons),
        pairs.num_genuine,
        pairs.num_impostor,
        pairs.origin,
        folds.origin if folds is not None else "",
    )
    return Figures(quality, comparisons + compare_cells(scored), counts, scored, gallery, found)


def choose_pairs(
    config: EvaluateConfig, split: FaceSplit, networks: Networks, emit: Emit
) -> tuple[Pairs, Pairs | None] | None:
    """Return the pairs of the error rates and those of the accuracy by folds; None without a recogniser."""
    if not networks.recognisers:
        if config.pairs is not None:
            emit(Note("--pairs is not used: no recogniser is given to compare them", is_warning=True))
        return None
    if config.pairs is not None:
        found = read_pairs(config.pairs, split)
        if len(found) == 0:
            raise pairs_elsewhere(config.pairs, found.num_skipped, split.name)
        if found.num_skipped:
            num_all = len(found) + found.num_skipped
            where = f"their images are not both in the {split.name} split"
            emit(Note(f"{found.num_skipped} of {num_all} pairs of {config.pairs.name} are left out: {where}"))
        return found, found if found.num_folds > 1 else None
    pairs = all_pairs(split.labels.numpy(), max_pairs=config.max_pairs, seed=config.seed)
    try:
        generated = generate_pairs(split, seed=config.seed)
    except DataError as error:
        emit(Note(f"no accuracy by folds: {error.message}"))
        return pairs, None
    return pairs, generated if generated.num_folds > 1 else None  # a threshold comes from other folds
