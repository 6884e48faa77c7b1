"""Verification: are two images of one person? Error rates of a list of scored pairs.

A pair is accepted when its score is at or above the threshold. The operating points are those that the scores
can give: one for each distinct score, and "reject all". Equal scores are accepted together, never singly.

In words of ISO/IEC 19795-1, FAR is FMR (false match rate), 1 - TAR is FNMR. All functions are exact: no
binning, and no interpolation except where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from dsrface.errors import DataError

Scores = Float[np.ndarray, " n"]
Flags = Bool[np.ndarray, " n"]

# Below 3 / FAR impostor pairs, even no false accept at all proves nothing (rule of 3).
MIN_EXPECTED_ERRORS = 3
# 30 errors give the rate to within 30 % at 90 % confidence (rule of 30).
GOOD_EXPECTED_ERRORS = 30


@dataclass(frozen=True)
class Roc:
    """All operating points, from "reject all" to "accept all".

    Args:
        thresholds: float64 [T], descending; the first is +inf.
        far: float64 [T], share of impostor pairs accepted, ascending from 0 to 1.
        tar: float64 [T], share of genuine pairs accepted, ascending from 0 to 1.
        num_genuine: Pairs of one person.
        num_impostor: Pairs of two persons.
    """

    thresholds: NDArray[np.float64]
    far: NDArray[np.float64]
    tar: NDArray[np.float64]
    num_genuine: int
    num_impostor: int


@dataclass(frozen=True)
class LfwResult:
    """Accuracy by folds.

    Args:
        accuracy: Mean over folds, in [0, 1].
        std: Sample standard deviation over folds (the LFW report's standard error is this / sqrt(folds)).
        per_fold: Accuracy of each fold at the threshold that the other folds chose.
        thresholds: Those thresholds.
        reject_all: Accuracy of rejecting every pair, averaged over the folds like `accuracy`.
    """

    accuracy: float
    std: float
    per_fold: tuple[float, ...]
    thresholds: tuple[float, ...]
    reject_all: float


class Trials:
    """Scored pairs, sorted once, so that many weightings of them can be evaluated.

    `scores` and `is_same` are the pairs by falling score; `order` puts whatever else is known of each pair
    into that order. `ends` are the positions of the last pairs of equal score, `corners` those of them at
    which the ROC curve turns.

    Args:
        scores: Higher is more alike; any finite numbers.
        is_same: True where the pair shows one person.

    Raises:
        DataError: no genuine or no impostor pair, or a score that is not finite.
    """

    def __init__(self, scores: Scores, is_same: Flags) -> None:
        scores, is_same = np.asarray(scores, np.float64), np.asarray(is_same, bool)
        if scores.shape != is_same.shape or scores.ndim != 1:
            raise ValueError(f"scores {scores.shape} and is_same {is_same.shape} must be equally long")
        if not np.isfinite(scores).all():
            raise DataError(
                f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite.",
                id="scores-not-finite",
                hint="The network's outputs are NaN or infinite; look at the run that trained it.",
            )
        num_genuine = int(is_same.sum())
        if num_genuine in (0, len(is_same)):
            raise DataError(
                f"Verification needs pairs of one person and pairs of two; "
                f"{num_genuine} of {len(is_same)} are of one.",
                id="one-sided-pairs",
                hint="Take a split with at least two persons, one of them with two images.",
            )
        self.order = np.argsort(-scores, kind="stable")
        self.scores = scores[self.order]
        self.is_same = is_same[self.order]
        last_of_ties = np.flatnonzero(np.diff(self.scores) != 0)
        self.ends = np.append(last_of_ties, len(scores) - 1)
        self.corners = self._corners()
        self.num_genuine = num_genuine
        self.num_impostor = len(is_same) - num_genuine

    def __len__(self) -> int:
        return len(self.scores)

    def accepted(self, weights: NDArray[np.float64] | None = None, *, at_corners: bool = False) -> Accepted:
        """Return what each threshold accepts, for one or many weightings of the pairs.

        Args:
            weights: [d, n] in the order of `scores`, whole numbers >= 0; None counts every pair once.
            at_corners: Only at those thresholds where the ROC curve turns, which say all that the rates of
                `Accepted` need; else at every one.
        """
        ends = self.corners if at_corners else self.ends
        ordered = np.ones((1, len(self))) if weights is None else weights
        total = np.zeros((len(ordered), len(ends) + 1))
        np.add.reduceat(ordered, np.append(0, ends[:-1] + 1), axis=1, out=total[:, 1:])
        np.cumsum(total, axis=1, out=total)
        below = np.zeros((len(ordered), self.num_genuine + 1))
        np.cumsum(ordered[:, self.is_same], axis=1, out=below[:, 1:])
        genuine = below[:, np.append(0, np.cumsum(self.is_same)[ends])]
        return Accepted(genuine, total - genuine)

    def _corners(self) -> NDArray[np.int64]:
        """Return the ends at which the ROC curve may turn: not those within a run of pairs of one kind."""
        num_same = np.diff(np.cumsum(self.is_same)[self.ends], prepend=0)
        num_pairs = np.diff(self.ends, prepend=-1)
        kind = np.where(num_same == 0, 0, np.where(num_same == num_pairs, 1, 2))  # 2: ties of both kinds
        goes_on = (kind[1:] == kind[:-1]) & (kind[1:] != 2)
        corners: NDArray[np.int64] = self.ends[np.append(~goes_on, True)]
        return corners


@dataclass(frozen=True)
class Accepted:
    """Summed weights of accepted pairs at every operating point; sums of whole numbers, so exact.

    A draw without genuine or without impostor pairs gives NaN.

    Args:
        genuine: float64 [d, T].
        impostor: float64 [d, T].
    """

    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]

    def eer(self) -> NDArray[np.float64]:
        """Return [d] equal error rates, in [0, 1]; see `eer`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            far = self.impostor / self.impostor[:, -1:]
            frr = 1 - self.genuine / self.genuine[:, -1:]
            gap = far - frr  # never falls; from -1 to 1
            after = np.argmax(gap >= 0, axis=1)
            rows = np.arange(len(gap))
            before = np.maximum(after - 1, 0)
            share = -gap[rows, before] / (gap[rows, after] - gap[rows, before])
            rate = far[rows, before] + share * (far[rows, after] - far[rows, before])
        return self._where_defined(rate)

    def auc(self) -> NDArray[np.float64]:
        """Return [d] areas under the ROC curve, in [0, 1]; see `auc`."""
        doubled = np.sum(np.diff(self.impostor) * (self.genuine[:, 1:] + self.genuine[:, :-1]), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._where_defined(doubled / (2 * self.genuine[:, -1] * self.impostor[:, -1]))

    def tar_at_far(self, far: float) -> NDArray[np.float64]:
        """Return [d] true-accept rates, in [0, 1], at a false-accept rate of at most `far`.

        The threshold is the lowest that accepts no more than that share of the impostor pairs: no
        interpolation, and never the nearest rate above. `far_support` says what so many pairs can show.

        Args:
            far: In (0, 1), e.g. 1e-3.

        Source:
            ISO/IEC 19795-1. Oracle in tests: sklearn.metrics.roc_curve(drop_intermediate=False).
        """
        last = self.last_within(far)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._where_defined(self.genuine[np.arange(len(last)), last] / self.genuine[:, -1])

    def last_within(self, far: float) -> NDArray[np.int64]:
        """Return [d] positions of the last operating point whose false-accept rate is at most `far`."""
        # 0.29 * 100 is 28.999...: the tiny factor keeps a permitted error permitted.
        permitted = np.floor(far * self.impostor[:, -1:] * (1 + 1e-12))
        last: NDArray[np.int64] = np.sum(self.impostor <= permitted, axis=1) - 1
        return last

    def _where_defined(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        is_defined = (self.genuine[:, -1] > 0) & (self.impostor[:, -1] > 0)
        return np.where(is_defined, values, np.nan)


def roc(scores: Scores, is_same: Flags) -> Roc:
    """Return every operating point.

    Args:
        scores: Higher is more alike.
        is_same: True where the pair shows one person.

    Raises:
        DataError: no genuine or no impostor pair, or a score that is not finite.
    """
    trials = Trials(scores, is_same)
    accepted = trials.accepted()
    return Roc(
        np.append(np.inf, trials.scores[trials.ends]),
        accepted.impostor[0] / trials.num_impostor,
        accepted.genuine[0] / trials.num_genuine,
        trials.num_genuine,
        trials.num_impostor,
    )


def eer(scores: Scores, is_same: Flags) -> float:
    """Return the equal error rate: where false accepts and false rejects are equally frequent.

    Where no operating point has equal rates, the point is on the straight line between its two neighbours,
    which is what choosing between their thresholds by a coin attains.

    Args:
        scores: Higher is more alike.
        is_same: True where the pair shows one person.

    Returns:
        In [0, 1]; 0.5 for scores that mean nothing.

    Raises:
        DataError: as `roc`.
    """
    return float(Trials(scores, is_same).accepted().eer()[0])


def auc(scores: Scores, is_same: Flags) -> float:
    """Return the area under the ROC curve.

    It is the chance that a random genuine pair scores above a random impostor pair, ties counting half.

    Args:
        scores: Higher is more alike.
        is_same: True where the pair shows one person.

    Returns:
        In [0, 1]; 0.5 for scores that mean nothing.

    Raises:
        DataError: as `roc`.

    Source:
        Mann-Whitney U. Oracle in tests: sklearn.metrics.roc_auc_score.
    """
    return float(Trials(scores, is_same).accepted().auc()[0])


def min_impostors(far: float) -> int:
    """Return how many impostor pairs a false-accept rate needs at least: 3 / far."""
    return int(np.ceil(round(MIN_EXPECTED_ERRORS / far, 6)))


def far_support(far: float, num_impostor: int) -> str:
    """Return what a number of impostor pairs says about a false-accept rate.

    Returns:
        `"none"` below 3 / far pairs, `"weak"` below 30 / far, else `"good"`.
    """
    if num_impostor < min_impostors(far):
        return "none"
    return "weak" if num_impostor * far * (1 + 1e-12) < GOOD_EXPECTED_ERRORS else "good"


def d_prime(scores: Scores, is_same: Flags) -> float:
    """Return how far apart both score distributions are, in units of their pooled standard deviation.

    Args:
        scores: Higher is more alike.
        is_same: True where the pair shows one person.

    Returns:
        (mean genuine - mean impostor) / sqrt((var genuine + var impostor) / 2) with population variances;
        0 when the means are equal, inf when only the means differ.

    Raises:
        DataError: as `roc`.
    """
    trials = Trials(scores, is_same)
    return float(d_primes(trials, np.ones((1, len(trials))))[0])


def d_primes(trials: Trials, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [d] values of `d_prime`, one for each weighting [d, n] of the pairs, in the order of `scores`.

    NaN where a side is empty.
    """
    genuine = weights[:, trials.is_same]
    num_genuine = genuine.sum(axis=1)
    # Scores shifted by one of their own side, so that a side of equal scores has a variance of exactly 0.
    shifts = [trials.scores[side][0] for side in (trials.is_same, ~trials.is_same)]
    own = trials.scores[trials.is_same] - shifts[0]
    others = np.where(trials.is_same, 0.0, trials.scores - shifts[1])
    sums = (
        (num_genuine, genuine @ own, genuine @ own**2),
        (weights.sum(axis=1) - num_genuine, weights @ others, weights @ others**2),
    )
    means, variances = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for shift, (total, first, second) in zip(shifts, sums, strict=True):
            mean = first / total
            means.append(mean + shift)
            variances.append(np.maximum(second / total - mean**2, 0))
        gap = means[0] - means[1]
        return np.where(gap == 0, 0.0, gap / np.sqrt((variances[0] + variances[1]) / 2))


def lfw_accuracy(
    scores: Scores,
    is_same: Flags,
    folds: Int[np.ndarray, " n"],
) -> LfwResult:
    """Return verification accuracy by cross-validation: each fold's threshold comes from the other folds.

    Of several thresholds that are equally good on those folds, the middle one is taken.

    Args:
        scores: Higher is more alike.
        is_same: True where the pair shows one person.
        folds: Fold of each pair, as `pairs.txt` gives them.

    Raises:
        DataError: fewer than two folds, or as `roc`.

    Source:
        Huang, Ramesh, Berg, Learned-Miller 2007 (LFW), image-restricted protocol.
    """
    names = np.unique(folds)
    if len(names) < 2:
        raise DataError("Accuracy by folds needs at least two folds.", id="too-few-folds")
    Trials(scores, is_same)
    accuracies, thresholds = [], []
    for fold in names:
        is_test = folds == fold
        threshold = _best_threshold(scores[~is_test], is_same[~is_test])
        accuracies.append(float(np.mean((scores[is_test] >= threshold) == is_same[is_test])))
        thresholds.append(threshold)
    return LfwResult(
        float(np.mean(accuracies)),
        float(np.std(accuracies, ddof=1)),
        tuple(accuracies),
        tuple(thresholds),
        float(np.mean([np.mean(~is_same[folds == fold]) for fold in names])),
    )


def _best_threshold(scores: NDArray[np.floating], is_same: NDArray[np.bool_]) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked, same = scores[order], is_same[order]
    ends = np.append(np.flatnonzero(np.diff(ranked) != 0), len(ranked) - 1)
    # Correct decisions when everything down to an end is accepted, counted from "reject all".
    gained = np.append(0, np.cumsum(np.where(same, 1, -1))[ends])
    best = np.flatnonzero(gained == gained.max())
    chosen = best[len(best) // 2]
    return float("inf") if chosen == 0 else float(ranked[ends[chosen - 1]])
