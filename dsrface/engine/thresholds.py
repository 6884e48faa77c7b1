"""Thresholds chosen on embeddings of validation persons: HR galleries against probes of the same photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsrface.data.pairs import all_pairs, both_ways
from dsrface.metrics.bootstrap import draw_persons
from dsrface.metrics.thresholds import Threshold, choose_thresholds

THRESHOLD_FARS = (0.1, 0.01, 0.001, 0.0001)
_MAX_PAIRS, _NUM_DRAWS = 50_000, 200  # a second of work, of a validation's many


def thresholds_of(
    gallery: NDArray[np.float32],
    probes: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    fars: Sequence[float] = THRESHOLD_FARS,
    seed: int,
) -> tuple[Threshold, ...]:
    """Return a threshold for each rate that the persons can support, from every pair taken both ways.

    Args:
        gallery: [N, D], rows of length 1.
        probes: [N, D], the same photos in the same order.
        labels: [N], person of each photo, 0-based.
        fars: False-accept rates that are asked for.
        seed: Of the pairs and of the draws of persons.
    """
    pairs = all_pairs(labels, max_pairs=_MAX_PAIRS, seed=seed)
    if pairs.num_genuine in (0, len(pairs)):
        return ()
    trials = both_ways(pairs)
    return choose_thresholds(
        np.sum(gallery[trials.first] * probes[trials.second], axis=1).astype(np.float64),
        trials.is_same,
        labels[trials.first],
        labels[trials.second],
        fars=fars,
        counts=draw_persons(int(labels.max()) + 1, num_draws=_NUM_DRAWS, seed=seed),
        trials_per_pair=len(trials) // len(pairs),
    )
