"""Who is in train, val and test: persons, never images, go to one side or the other."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from dsrface.errors import DataError
from dsrface.runtime.text import count_text
from dsrface.types import SPLITS

_FULL_NAME = re.compile(r"[^\W\d_]+(_[^\W\d_]+)+_\d+\.\w+$")  # Anna_Maria_Lind_0001.jpg, as LFW writes it
DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def split_persons(
    persons: Iterable[str], *, fractions: Mapping[str, float] = DEFAULT_FRACTIONS, seed: int = 0
) -> dict[str, str]:
    """Return the split of each person.

    A person's place is a hash of seed and name compared with the fractions, so adding or removing other
    persons moves none of the others, except to fill a split that would be far below its share.

    Args:
        persons: Names, in any order.
        fractions: Share of each split; they are scaled to sum 1, and a split of share 0 gets no person.
        seed: Other seeds give other splits.

    Raises:
        DataError: fewer persons than splits with a share.
    """
    names = sorted(set(persons))
    wanted = [name for name in SPLITS if fractions.get(name, 0.0) > 0]
    if len(names) < len(wanted):
        raise DataError(
            f"{count_text(len(names), 'person')} cannot be split into {len(wanted)} splits "
            f"({', '.join(wanted)}).",
            id="too-few-persons",
            hint="Add persons, or ask for fewer splits with prepare's --split, e.g. --split 1,0,0.",
        )
    total = sum(fractions[name] for name in wanted)
    shares = {name: fractions[name] / total for name in wanted}
    places = {person: _place(person, seed) for person in names}
    result = {}
    for person in names:
        edge, chosen = 0.0, wanted[-1]
        for name in wanted:
            edge += shares[name]
            if places[person] < edge:
                chosen = name
                break
        result[person] = chosen
    _fill_up(result, places, shares)
    return result


def complete_splits(
    given: Mapping[str, str], *, fractions: Mapping[str, float], seed: int = 0
) -> dict[str, str]:
    """Return given splits, with those that are missing and have a share taken out of the train persons.

    Args:
        given: Split of each person.
        fractions: Share of each split.
        seed: As in `split_persons`.

    Raises:
        DataError: too few train persons to share.
    """
    missing = [name for name in SPLITS if name not in given.values() and fractions.get(name, 0.0) > 0]
    if not missing or "train" not in given.values():
        return dict(given)
    shares = {name: fractions[name] for name in ("train", *missing)}
    train = [person for person, split in given.items() if split == "train"]
    return {**given, **split_persons(train, fractions=shares, seed=seed)}


def doubts_of_flat_names(files: Iterable[str]) -> list[str]:
    """Return what may be wrong with taking the text before the first underscore as the person."""
    doubts = []
    names = list(files)
    full = [file for file in names if _FULL_NAME.match(file)]
    if full:
        first = full[0].partition("_")[0]
        doubt = (
            f"{len(full)} names look like first and last name, e.g. {full[0]!r}, and count as of {first!r}"
        )
        doubts.append(f"{doubt}; if that is wrong, put each person's photos in a folder")
    persons = {file.partition("_")[0] for file in names}
    if len(names) > 2 and len(persons) == len(names):
        doubt = f"each of the {len(persons)} persons has one image, e.g. {names[0]!r}"
        doubts.append(f"{doubt}; if they are all of one person, give the folder above")
    return doubts


def _fill_up(result: dict[str, str], places: Mapping[str, float], shares: Mapping[str, float]) -> None:
    """Move persons to splits that are far below their share, from those that can spare them.

    Two persons at least, where there are enough: one alone gives no impostor pair.
    """
    least = 2 if len(result) >= 2 * len(shares) else 1
    fair = {name: max(least, int(0.8 * share * len(result))) for name, share in shares.items()}
    for needs in (dict.fromkeys(shares, least), fair):
        for name in shares:
            while (counts := Counter(result.values()))[name] < needs[name]:
                donors = [other for other in shares if counts[other] > needs[other]]
                if not donors:
                    break
                donor = max(donors, key=lambda other: counts[other])
                mover = max((person for person in result if result[person] == donor), key=places.__getitem__)
                result[mover] = name


def _place(person: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}/{person}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2.0**64
