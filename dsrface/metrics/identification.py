"""Identification: whose image is this? Closed set (rank k) and open set (TPIR at FPIR).

A probe's own photo is never in the gallery: it would be found by its noise, not by its face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from dsrface.errors import DataError
from dsrface.metrics.verification import min_impostors

_UNKNOWN_FRACTION = 0.25
_CHUNK = 256  # probes compared with the whole gallery at once


@dataclass(frozen=True)
class Enrolment:
    """Who is enrolled, and who is searched for; positions of images in the split.

    Args:
        gallery: int64 [G], one image of each enrolled person.
        known: int64 [K], the other images of enrolled persons.
        unknown: int64 [U], all images of persons who are not enrolled.
    """

    gallery: NDArray[np.int64]
    known: NDArray[np.int64]
    unknown: NDArray[np.int64]

    def __post_init__(self) -> None:
        for probes in (self.known, self.unknown):
            shared = np.intersect1d(self.gallery, probes)
            if len(shared):
                raise ValueError(f"image {shared[0]} is in the gallery and a probe as well")


@dataclass(frozen=True)
class Search:
    """What searching the gallery gave.

    Args:
        ranks: int64 [K], rank of each known probe's own person; 1 is best, ties count against it.
        known_scores: float64 [K], score of each known probe's own person.
        unknown_scores: float64 [U], best score of each unknown probe.
    """

    ranks: NDArray[np.int64]
    known_scores: NDArray[np.float64]
    unknown_scores: NDArray[np.float64]


def enrol(persons: Int[np.ndarray, " n"], *, seed: int) -> Enrolment:
    """Choose a gallery: one image of each person who has several, save for a quarter who stay unknown.

    Persons with a single image are never enrolled.

    Args:
        persons: Person of each image.
        seed: Fixes who stays unknown and which image is enrolled.

    Raises:
        DataError: fewer than two persons can be enrolled.
    """
    rng = np.random.Generator(np.random.PCG64([seed, len(persons)]))
    names, sizes = np.unique(persons, return_counts=True)
    several = rng.permutation(names[sizes > 1])
    num_unknown = min(round(_UNKNOWN_FRACTION * len(several)), max(len(several) - 2, 0))
    enrolled = np.sort(several[num_unknown:])
    if len(enrolled) < 2:
        raise DataError(
            f"Identification needs two persons with two images each; there are {len(enrolled)}.",
            id="too-few-persons",
            hint="Measure on a split with more persons.",
        )
    gallery = np.array([rng.choice(np.flatnonzero(persons == person)) for person in enrolled], np.int64)
    is_enrolled = np.isin(persons, enrolled)
    is_probe = np.ones(len(persons), bool)
    is_probe[gallery] = False
    return Enrolment(gallery, np.flatnonzero(is_enrolled & is_probe), np.flatnonzero(~is_enrolled))


def search(
    known: Float[np.ndarray, "k g"],
    unknown: Float[np.ndarray, "u g"],
    *,
    known_persons: Int[np.ndarray, " k"],
    gallery_persons: Int[np.ndarray, " g"],
) -> Search:
    """Rank the gallery for every probe.

    Args:
        known: Scores of the known probes against the gallery, higher is more alike.
        unknown: Scores of the unknown probes.
        known_persons: Person of each known probe; each is in the gallery.
        gallery_persons: Person of each gallery image, each person once.
    """
    place = {int(person): column for column, person in enumerate(gallery_persons)}
    if len(place) != len(gallery_persons) or not all(int(person) in place for person in known_persons):
        raise ValueError("each person is in the gallery once, and each known probe's person is in it")
    columns = np.array([place[int(person)] for person in known_persons], np.int64)
    own = known[np.arange(len(known)), columns].astype(np.float64)
    ranks = np.sum(known >= own[:, None], axis=1)  # counts itself, and whoever scores as well as it does
    best = unknown.max(axis=1) if len(unknown) else np.empty(0)
    return Search(ranks.astype(np.int64), own, best.astype(np.float64))


def rank_hits(found: Search, *, rank: int) -> Bool[np.ndarray, " k"]:
    """Return which known probes have their own person among the first `rank`; the mean is rank-k accuracy."""
    return found.ranks <= rank


def search_images(
    probes: Float[np.ndarray, "p d"],
    gallery: Float[np.ndarray, "g d"],
    *,
    probe_persons: Int[np.ndarray, " p"],
    gallery_persons: Int[np.ndarray, " g"],
) -> tuple[Search, Bool[np.ndarray, " p"]]:
    """Rank a gallery in which a person may have several images, for probes of persons in it and of others.

    The rank of a known probe is one more than the number of images of other persons that score as well as
    its own person's best: it is found among the first k when one of its person's images is.

    Args:
        probes: Embeddings of length 1.
        gallery: Embeddings of length 1.
        probe_persons: Person of each probe.
        gallery_persons: Person of each gallery image.

    Returns:
        The search, and which probes are of persons in the gallery: the known ones, in their order.
    """
    is_known = np.isin(probe_persons, gallery_persons)
    ranks = np.zeros(len(probes), np.int64)
    scores = np.full(len(probes), -np.inf)
    for start in range(0, len(probes), _CHUNK):
        part = slice(start, start + _CHUNK)
        alike = probes[part] @ gallery.T
        is_own = probe_persons[part, None] == gallery_persons[None, :]
        own = np.where(is_own, alike, -np.inf).max(axis=1)
        ranks[part] = 1 + np.sum((alike >= own[:, None]) & ~is_own, axis=1)
        scores[part] = np.where(is_known[part], own, alike.max(axis=1))
    return Search(ranks[is_known], scores[is_known], scores[~is_known]), is_known


def open_set_hits(found: Search, *, fpir: float, rank: int = 1) -> Bool[np.ndarray, " k"]:
    """Return which known probes are identified at a false-positive identification rate of at most `fpir`.

    A hit is at that rank or better and above the lowest threshold that lets no more than that share of the
    unknown probes through; the mean is TPIR.

    Args:
        found: From `search`.
        fpir: In (0, 1).
        rank: 1 by NIST's definition; QMUL-SurvFace reports 20.

    Raises:
        DataError: fewer than 3 / fpir unknown probes.

    Source:
        ISO/IEC 19795-1, NIST FRTE 1:N (TPIR = 1 - FNIR at rank 1).
    """
    num_unknown = len(found.unknown_scores)
    if num_unknown < min_impostors(fpir):
        raise DataError(
            f"A false-positive identification rate of {fpir:g} needs "
            f"{min_impostors(fpir)} unknown probes; there are {num_unknown}.",
            id="too-few-unknown",
            hint="Ask for a higher rate, or measure on more persons.",
        )
    permitted = int(np.floor(fpir * num_unknown * (1 + 1e-12)))
    # A score passes when it is above the first unknown score that must not pass; ties do not pass.
    limit = np.sort(found.unknown_scores)[::-1][permitted] if permitted < num_unknown else -np.inf
    return np.asarray((found.ranks <= rank) & (found.known_scores > limit))
