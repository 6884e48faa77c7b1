"""From the embeddings of a benchmark to its figures, with intervals by person and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.evaluate.benchmark.features import Embedded
from dsrface.commands.evaluate.benchmark.result import SearchFigures
from dsrface.commands.evaluate.figures import Scored, compare_cells, rivals, score_cell, verdict
from dsrface.commands.evaluate.result import HR, RAW, Cell, Comparison
from dsrface.config.catalogue import PROTOCOLS
from dsrface.data.benchmarks.benchmark import Benchmark, GallerySearch, PairTest, Template
from dsrface.data.pairs import Pairs, both_ways
from dsrface.errors import DataError
from dsrface.metrics.bootstrap import Estimate, difference, draw_persons, estimate, mean_draws
from dsrface.metrics.identification import open_set_hits, rank_hits, search_images

Rank1 = tuple[float, NDArray[np.float64], int]  # a rate, its bootstrap draws, the persons that it is of


@dataclass(frozen=True)
class Judged:
    """All figures of a benchmark."""

    searches: tuple[SearchFigures, ...]
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    num_genuine: int
    num_impostor: int


def judge(benchmark: Benchmark, embedded: Embedded, *, num_draws: int, seed: int) -> Judged:
    """Return every figure that a benchmark asks for.

    Args:
        benchmark: Searches and pairs.
        embedded: The faces' embeddings; faces that could not be read are left out of every figure.
        num_draws: Bootstrap draws of persons.
        seed: Fixes them.
    """
    units = benchmark.templates or benchmark.faces
    persons = np.unique([unit.person for unit in units], return_inverse=True)[1].astype(np.int64)
    counts = draw_persons(int(persons.max()) + 1, num_draws=num_draws, seed=seed)
    searches, search_gains = _judge_searches(benchmark, embedded, persons, counts)
    cells: list[Cell] = []
    gains: list[Comparison] = list(search_gains)
    for test in benchmark.pair_tests:
        scored = _judge_pairs(benchmark, test, embedded, persons, counts)
        cells += scored.cells
        gains += compare_cells(scored)
    pairs = [_judged_pairs(benchmark, test, embedded) for test in benchmark.pair_tests[:1]]
    return Judged(
        tuple(searches),
        tuple(cells),
        tuple(gains),
        sum(item.num_genuine for item in pairs),
        sum(item.num_impostor for item in pairs),
    )


def pool_templates(features: NDArray[np.float32], templates: Sequence[Template]) -> NDArray[np.float32]:
    """Return one embedding a template: the mean over media of the mean over their faces, brought to length 1.

    Source:
        Crosswhite et al. 2017, as insightface's IJB evaluation does it.
    """
    pooled = np.zeros((len(templates), features.shape[1]), np.float32)
    for row, template in enumerate(templates):
        media = [
            features[template.faces[template.media == medium]].mean(axis=0)
            for medium in np.unique(template.media)
        ]
        pooled[row] = np.sum(media, axis=0)
    lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = pooled / np.maximum(lengths, 1e-12)
    return scaled


def _judge_searches(
    benchmark: Benchmark, embedded: Embedded, persons: NDArray[np.int64], counts: NDArray[np.uint16]
) -> tuple[list[SearchFigures], list[Comparison]]:
    figures: list[SearchFigures] = []
    gains: list[Comparison] = []
    kinds = [key for key in embedded.features if key[0] != HR]
    for search in benchmark.searches:
        draws: dict[tuple[str, str], Rank1] = {}
        for kind, recogniser in kinds:
            rows = embedded.rows(kind, recogniser, benchmark.is_low)
            found, first = _search(search, rows, persons, counts, embedded.bad, (kind, recogniser))
            figures.append(found)
            draws[kind, recogniser] = first
        gains += _rank1_gains(search.title or "search", draws)
    return figures, gains


def _rank1_gains(title: str, draws: Mapping[tuple[str, str], Rank1]) -> Iterator[Comparison]:
    """Yield what DSR adds to bicubic, and fine-tuning to the frozen recogniser, in one search."""
    for key, (own, own_draws, num_persons) in draws.items():
        for rival in rivals(*key):
            if rival in draws:
                other, other_draws, _ = draws[rival]
                gain = difference(own, other, own_draws, other_draws, num_persons=num_persons)
                yield Comparison(
                    " + ".join(key), " + ".join(rival), title, "rank1", gain, verdict(gain, "rank1")
                )


def _search(
    search: GallerySearch,
    rows: NDArray[np.float32],
    persons: NDArray[np.int64],
    counts: NDArray[np.uint16],
    bad: dict[int, str],
    key: tuple[str, str],
) -> tuple[SearchFigures, Rank1]:
    gallery, probes = (_without(places, bad) for places in (search.gallery, search.probes))
    found, is_known = search_images(
        rows[probes], rows[gallery], probe_persons=persons[probes], gallery_persons=persons[gallery]
    )
    owners = persons[probes][is_known]
    num_persons = len(np.unique(owners))

    def rate(hits: NDArray[np.bool_]) -> tuple[Estimate, NDArray[np.float64]]:
        drawn = mean_draws(hits.astype(np.float64), owners, counts)
        return estimate(float(hits.mean()) if len(hits) else np.nan, drawn, num_persons=num_persons), drawn

    ranks = {rank: rate(rank_hits(found, rank=rank)) for rank in search.ranks if rank < len(gallery)}
    tpirs: dict[float, Estimate] = {}
    if len(found.unknown_scores):
        for fpir in search.fpirs:
            try:
                tpirs[fpir] = rate(open_set_hits(found, fpir=fpir, rank=search.open_set_rank))[0]
            except DataError:  # too few unknown probes for that rate
                tpirs[fpir] = Estimate(None)
    figures = SearchFigures(
        search.title,
        *key,
        len(gallery),
        len(owners),
        len(found.unknown_scores),
        {rank: value for rank, (value, _) in ranks.items()},
        tpirs,
    )
    first = rank_hits(found, rank=1)
    return figures, (float(first.mean()) if len(first) else np.nan, rate(first)[1], num_persons)


def _judge_pairs(
    benchmark: Benchmark,
    test: PairTest,
    embedded: Embedded,
    persons: NDArray[np.int64],
    counts: NDArray[np.uint16],
) -> Scored:
    cells: list[Cell] = []
    draws = {}
    roles = list(dict.fromkeys(role for _, role in embedded.features if role != RAW))
    kinds = list(dict.fromkeys(kind for kind, _ in embedded.features if kind != HR))
    pairs = _judged_pairs(benchmark, test, embedded)
    for role in (*roles, RAW):
        for kind in [HR] if PROTOCOLS[test.protocol].is_ceiling else kinds:
            left, right = (_side(side, kind) for side in test.protocol.split("-"))
            features = [_units(benchmark, embedded.features[side, role]) for side in (left, right)]
            # Twins are compared both ways; of native pairs each side has one form only.
            asked = both_ways(pairs) if benchmark.has_twins and left != right else pairs
            key = (test.protocol, kind, role)
            folds = asked if asked.num_folds > 1 else None
            cell, own = score_cell(
                key,
                (features[0], features[1]),
                asked,
                folds,
                persons=persons,
                counts=counts,
                fars=benchmark.fars,
                num_impostor=pairs.num_impostor,
            )
            cells.append(cell)
            draws[key] = own
    num_persons = len(np.union1d(persons[pairs.first], persons[pairs.second]))
    return Scored(tuple(cells), draws, num_persons)


def _judged_pairs(benchmark: Benchmark, test: PairTest, embedded: Embedded) -> Pairs:
    return test.pairs if benchmark.templates else test.pairs.without(list(embedded.bad))


def _side(side: str, kind: str) -> str:
    return HR if side == "HR" else kind


def _units(benchmark: Benchmark, features: NDArray[np.float32]) -> NDArray[np.float32]:
    return pool_templates(features, benchmark.templates) if benchmark.templates else features


def _without(places: NDArray[np.int64], bad: dict[int, str]) -> NDArray[np.int64]:
    return places[~np.isin(places, list(bad))] if bad else places
