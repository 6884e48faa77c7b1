"""Thresholds: chosen on some persons, held against others.

A threshold that is chosen on the pairs that it is judged by promises too much. So it is chosen on validation
persons, and what it does is measured on test persons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt16
from numpy.typing import NDArray

from dsrface.metrics.bootstrap import MIN_PERSONS, Estimate, estimate, pair_weights
from dsrface.metrics.verification import Trials, far_support

_CHUNK_NUMBERS = 2**22  # weights held at once: 32 MiB


@dataclass(frozen=True)
class Threshold:
    """A score at and above which a pair is accepted.

    Args:
        far: False-accept rate that was asked for.
        score: The threshold, with its interval by person.
        tar: True-accept rate where it was chosen.
        num_impostor: Impostor pairs that it was chosen on.
        num_persons: Persons that it was chosen on.
    """

    far: float
    score: Estimate
    tar: float
    num_impostor: int
    num_persons: int


@dataclass(frozen=True)
class Applied:
    """What a threshold does on other persons.

    Args:
        far: Share of impostor pairs accepted.
        tar: Share of genuine pairs accepted.
    """

    far: Estimate
    tar: Estimate


@dataclass(frozen=True)
class StoredThresholds:
    """Thresholds as a recogniser's file keeps them, with what they hold for.

    Args:
        conditions: Plain values: `vlr_size` in pixels, `images` (DSR, bicubic or HR), `degradation` of the
            low-resolution images and `dsr_sha256`; None where unknown.
        chosen: One for each false-accept rate that the persons could support.
    """

    conditions: dict[str, Any]
    chosen: tuple[Threshold, ...]

    def at(self, far: float) -> Threshold | None:
        """Return the threshold of a false-accept rate, or None."""
        return next((item for item in self.chosen if math.isclose(item.far, far)), None)

    def to_json(self) -> str:
        """Return a JSON text, for a file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StoredThresholds:
        """Rebuild from `to_json`.

        Raises:
            ValueError, KeyError, TypeError: not such a text.
        """
        raw = json.loads(text)
        chosen = tuple(Threshold(**{**item, "score": Estimate(**item["score"])}) for item in raw["chosen"])
        return cls(dict(raw["conditions"]), chosen)


def choose_thresholds(
    scores: Float[np.ndarray, " n"],
    is_same: Bool[np.ndarray, " n"],
    first: Int[np.ndarray, " n"],
    second: Int[np.ndarray, " n"],
    *,
    fars: Sequence[float],
    counts: UInt16[np.ndarray, "d p"],
    trials_per_pair: int = 1,
) -> tuple[Threshold, ...]:
    """Return the lowest threshold for each false-accept rate that the pairs can support.

    A rate without support (`far_support`), and every rate below `MIN_PERSONS` persons, is left out.

    Args:
        scores: Higher is more alike.
        is_same: True where the pair shows one person.
        first: Person of each pair's first image, an index into `counts`.
        second: Person of its second.
        fars: Rates that are asked for.
        counts: Draws of persons, from `draw_persons`.
        trials_per_pair: Scores that there are for two photos; two when each was gallery and probe. Support
            counts photos, as the second score of two photos says little that the first did not.

    Raises:
        DataError: no genuine or no impostor pair, or a score that is not finite.
    """
    trials = Trials(scores, is_same)
    num_persons = len(np.unique(np.concatenate([first, second])))
    num_impostor = trials.num_impostor // trials_per_pair
    kept = [far for far in fars if far_support(far, num_impostor) != "none"]
    if num_persons < MIN_PERSONS or not kept:
        return ()
    # "reject all" is a threshold too: just above the highest score
    points = np.append(np.nextafter(trials.scores[0], np.inf), trials.scores[trials.ends])
    whole = trials.accepted()
    drawn: dict[float, list[NDArray[np.float64]]] = {far: [] for far in kept}
    for weights in _chunks(first[trials.order], second[trials.order], counts):
        accepted = trials.accepted(weights)
        for far in kept:
            drawn[far].append(points[accepted.last_within(far)])
    return tuple(
        Threshold(
            far,
            estimate(
                float(points[whole.last_within(far)[0]]),
                np.concatenate(drawn[far] or [np.empty(0)]),
                num_persons=num_persons,
            ),
            float(whole.tar_at_far(far)[0]),
            num_impostor,
            num_persons,
        )
        for far in kept
    )


def apply_thresholds(
    chosen: Sequence[float],
    scores: Float[np.ndarray, " n"],
    is_same: Bool[np.ndarray, " n"],
    first: Int[np.ndarray, " n"],
    second: Int[np.ndarray, " n"],
    *,
    counts: UInt16[np.ndarray, "d p"],
) -> list[Applied]:
    """Return the rates of thresholds that were chosen elsewhere.

    Args:
        chosen: The thresholds.
        scores: Of the pairs to judge them by.
        is_same: True where the pair shows one person.
        first: Person of each pair's first image, an index into `counts`.
        second: Person of its second.
        counts: Draws of persons, from `draw_persons`.
    """
    num_persons = len(np.unique(np.concatenate([first, second])))
    accepted = scores >= np.asarray(chosen, np.float64)[:, None]
    rates = [
        _rates(accepted[:, side], first[side], second[side], counts, num_persons=num_persons)
        for side in (~is_same, is_same)
    ]
    return [Applied(far, tar) for far, tar in zip(*rates, strict=True)]


def _rates(
    accepted: NDArray[np.bool_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    counts: NDArray[np.uint16],
    *,
    num_persons: int,
) -> list[Estimate]:
    """Return the share of accepted pairs for each row of `accepted` [t, n]; each draw is weighted once."""
    drawn = np.empty((len(accepted), len(counts)))
    done = 0
    for weights in _chunks(first, second, counts):
        part = slice(done, done + len(weights))
        with np.errstate(invalid="ignore"):
            total = weights.sum(axis=1)
            for row, is_accepted in enumerate(accepted):
                drawn[row, part] = weights @ is_accepted / total
        done += len(weights)
    values = accepted.mean(axis=1) if accepted.shape[1] else np.full(len(accepted), np.nan)
    return [
        estimate(float(value), own, num_persons=num_persons) for value, own in zip(values, drawn, strict=True)
    ]


def _chunks(
    first: NDArray[np.int64], second: NDArray[np.int64], counts: NDArray[np.uint16]
) -> Iterator[NDArray[np.float64]]:
    step = max(1, _CHUNK_NUMBERS // max(1, len(first)))
    for start in range(0, len(counts), step):
        yield pair_weights(first, second, counts[start : start + step])
