"""How sure one may be: bootstrap by person.

Images of one person are alike, so pairs are not independent: resampling pairs, or images, gives
intervals that are far too narrow. Persons are drawn with replacement instead. A person drawn m times has
weight m; a genuine pair the weight of its person, an impostor pair the product of its two persons' weights;
a pair of a person with her own copy does not exist. All figures of one evaluation use the same draws, so
differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int, UInt16
from numpy.typing import NDArray

from dsrface.metrics.verification import Trials, d_primes

LEVEL = 0.95
_CHUNK_NUMBERS = 2**22  # weights held at once: 32 MiB
_MIN_DEFINED = 0.5
# Fewer persons give no interval: of two equal methods, one was then called better far more often than the 5 %
# that a 95 % interval allows.
MIN_PERSONS = 10
MIN_DRAWS = 100  # fewer do not reach the tails


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Args:
        value: From the sample as it is; None where it is undefined.
        low: Lower end of the 95 % interval; None without one.
        high: Upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def covers_zero(self) -> bool:
        """Whether zero is inside the interval, or there is no interval: then no difference is shown."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def draw_persons(num_persons: int, *, num_draws: int, seed: int) -> UInt16[np.ndarray, "d p"]:
    """Return how often each person is drawn, in each of `num_draws` samples of `num_persons` persons.

    Args:
        num_persons: Persons of the split.
        num_draws: Bootstrap samples.
        seed: Fixes them.
    """
    rng = np.random.Generator(np.random.PCG64([seed, num_persons]))
    counts = np.empty((num_draws, num_persons), np.uint16)
    for row in counts:  # a row at a time: 1000 x 6000 persons in int64 would be 48 MB for nothing
        row[:] = np.bincount(rng.integers(0, num_persons, num_persons), minlength=num_persons)
    return counts


def mean_draws(
    values: Float[np.ndarray, " n"], persons: Int[np.ndarray, " n"], counts: UInt16[np.ndarray, "d p"]
) -> Float[np.ndarray, " d"]:
    """Return the mean over images in every draw.

    Args:
        values: One per image.
        persons: Person of each image, an index into `counts`.
        counts: From `draw_persons`.
    """
    num_persons = counts.shape[1]
    sums = np.bincount(persons, values, minlength=num_persons)
    sizes = np.bincount(persons, minlength=num_persons).astype(np.float64)
    weights = counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights @ sums / (weights @ sizes))


def pair_weights(
    first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"], counts: UInt16[np.ndarray, "d p"]
) -> Float[np.ndarray, "d n"]:
    """Return the weight of each pair in every draw.

    Args:
        first: Person of each pair's first image.
        second: Person of its second.
        counts: From `draw_persons`.
    """
    drawn = counts.astype(np.float64)
    weights, other = drawn.take(first, axis=1), drawn.take(second, axis=1)
    other[:, first == second] = 1
    weights *= other
    return weights


def verification_draws(
    trials: Trials,
    first: Int[np.ndarray, " n"],
    second: Int[np.ndarray, " n"],
    counts: UInt16[np.ndarray, "d p"],
    *,
    fars: Sequence[float] = (),
) -> dict[str, NDArray[np.float64]]:
    """Return EER, AUC, d-prime and TAR at FAR in every draw; NaN where a draw has one kind of pair only.

    Args:
        trials: Scored pairs.
        first: Person of each pair's first image, in the order in which the scores were given.
        second: Person of its second.
        counts: From `draw_persons`.
        fars: False-accept rates.

    Returns:
        `eer`, `auc`, `d_prime`, and `tar@<far>` for each rate; float64 [d] each.
    """
    parts: list[dict[str, NDArray[np.float64]]] = []
    first, second = first[trials.order], second[trials.order]
    step = max(1, _CHUNK_NUMBERS // len(trials))
    for start in range(0, len(counts), step):
        weights = pair_weights(first, second, counts[start : start + step])
        accepted = trials.accepted(weights, at_corners=True)
        part = {"eer": accepted.eer(), "auc": accepted.auc(), "d_prime": d_primes(trials, weights)}
        parts.append(part | {f"tar@{far:g}": accepted.tar_at_far(far) for far in fars})
    names = parts[0] if parts else ("eer", "auc", "d_prime", *(f"tar@{far:g}" for far in fars))
    return {name: np.concatenate([part[name] for part in parts] or [np.empty(0)]) for name in names}


def estimate(value: float, draws: NDArray[np.float64], *, num_persons: int) -> Estimate:
    """Return a figure with the expanded percentile interval of its draws.

    A bootstrap sample of n persons varies less than n persons do, by sqrt((n - 1) / n), and n persons show
    their own spread only as well as Student's t says; the percentiles are further out accordingly.

    Args:
        value: From the sample as it is.
        draws: The same figure in every draw; NaN where it is undefined. There is no interval when fewer than
            half are defined, or fewer than 100.
        num_persons: Persons that the figure comes from; there is no interval below `MIN_PERSONS`.

    Source:
        Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 4.1.
    """
    if not np.isfinite(value):
        return Estimate(None)
    defined = draws[np.isfinite(draws)]
    if num_persons < MIN_PERSONS or len(defined) < max(MIN_DRAWS, _MIN_DEFINED * len(draws)):
        return Estimate(float(value))
    tail = _expanded_tail(num_persons)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))


def difference(
    first: float,
    second: float,
    first_draws: NDArray[np.float64],
    second_draws: NDArray[np.float64],
    *,
    num_persons: int,
) -> Estimate:
    """Return `first - second` with its paired interval: both figures are taken from the same draws."""
    with np.errstate(invalid="ignore"):
        return estimate(first - second, first_draws - second_draws, num_persons=num_persons)


def _expanded_tail(num_persons: int) -> float:
    """Return the share of draws beyond either end of the interval."""
    normal = NormalDist()
    z, freedom = normal.inv_cdf((1 + LEVEL) / 2), num_persons - 1
    # Student's t from the normal quantile (Fisher and Cornish); to 1e-4 from 9 degrees of freedom on.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return normal.cdf(-t * (num_persons / freedom) ** 0.5)
