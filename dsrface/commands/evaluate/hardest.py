"""Who and what is hardest: the pairs that were judged most wrongly, and the errors of each person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.evaluate.figures import cosines
from dsrface.commands.evaluate.images import Measured
from dsrface.commands.evaluate.result import BICUBIC, DSR, FROZEN, HR, TUNED
from dsrface.data.layout import FaceSplit
from dsrface.data.pairs import Pairs, both_ways
from dsrface.metrics.verification import roc

_EACH = 3


@dataclass(frozen=True)
class HardPair:
    """Two photos that were judged wrongly, or nearly so.

    Args:
        is_same: They show one person.
        score: Cosine of their embeddings.
        gallery: Position in the split of the photo that was taken as HR.
        probe: Of the one that was taken as VLR.
    """

    is_same: bool
    score: float
    gallery: int
    probe: int


@dataclass(frozen=True)
class PersonErrors:
    """The errors at the threshold of equal error rates that one person has a part in.

    Args:
        person: Name.
        genuine: Pairs of two photos of this person.
        missed: Those below the threshold.
        impostor: Pairs of a photo of this person and one of another.
        accepted: Those above it.
    """

    person: str
    genuine: int
    missed: int
    impostor: int
    accepted: int


@dataclass(frozen=True)
class Hardest:
    """What one recogniser finds hardest, HR photos against VLR probes.

    Args:
        images: What stands for the VLR faces.
        recogniser: Frozen or fine-tuned.
        threshold: Cosine at which both error rates are equal.
        pairs: One person and then two, the worst first.
        persons: All with any pair, those with most errors first.
    """

    images: str
    recogniser: str
    threshold: float
    pairs: tuple[HardPair, ...]
    persons: tuple[PersonErrors, ...]

    @property
    def places(self) -> list[int]:
        """Positions in the split of the photos of the pairs."""
        return sorted({place for pair in self.pairs for place in (pair.gallery, pair.probe)})


def find_hardest(measured: Measured, split: FaceSplit, pairs: Pairs) -> Hardest:
    """Return the hardest pairs and persons of the last recogniser on the best images there are.

    Args:
        measured: Embeddings of every image.
        split: Who they show.
        pairs: Of both kinds, genuine and impostor.
    """
    roles = {recogniser for _, recogniser in measured.features}
    recogniser = TUNED if TUNED in roles else FROZEN
    images = DSR if (DSR, recogniser) in measured.features else BICUBIC
    asked = both_ways(pairs)
    features = (measured.features[HR, recogniser], measured.features[images, recogniser])
    scores = cosines(*features, asked)
    points = roc(scores, asked.is_same)
    threshold = float(points.thresholds[int(np.argmax(points.far >= 1 - points.tar))])
    persons = split.labels.numpy()
    hardest = [*_worst(scores, asked, persons, is_same=True), *_worst(scores, asked, persons, is_same=False)]
    errors = tuple(_errors(split, asked, scores >= threshold))
    return Hardest(images, recogniser, threshold, tuple(hardest), errors)


def _worst(
    scores: NDArray[np.float64], pairs: Pairs, persons: NDArray[np.int64], *, is_same: bool
) -> Iterator[HardPair]:
    """Yield the pairs with the most wrong scores, at most one of the same persons."""
    order = np.argsort(scores if is_same else -scores, kind="stable")
    seen: set[frozenset[int]] = set()
    for place in order[pairs.is_same[order] == is_same]:
        gallery, probe = int(pairs.first[place]), int(pairs.second[place])
        who = frozenset((int(persons[gallery]), int(persons[probe])))
        if who in seen:
            continue
        seen.add(who)
        yield HardPair(is_same, float(scores[place]), gallery, probe)
        if len(seen) == _EACH:
            return


def _errors(split: FaceSplit, pairs: Pairs, accepted: NDArray[np.bool_]) -> list[PersonErrors]:
    labels, number = split.labels.numpy(), len(split.persons)

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return for each person the chosen pairs it has a part in."""
        first, second = labels[pairs.first[chosen]], labels[pairs.second[chosen]]
        others = second[second != first]
        return np.bincount(first, minlength=number) + np.bincount(others, minlength=number)

    columns = [
        count(chosen)
        for chosen in (pairs.is_same, pairs.is_same & ~accepted, ~pairs.is_same, ~pairs.is_same & accepted)
    ]
    found = [
        PersonErrors(split.persons[person], *(int(column[person]) for column in columns))
        for person in range(number)
    ]
    found = [item for item in found if item.genuine or item.impostor]
    return sorted(found, key=lambda item: (-item.missed - item.accepted, item.person))
