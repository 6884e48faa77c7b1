"""Whether networks have seen what they are measured on, and whether it is like their training data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from dsrface.commands.evaluate.images import Networks
from dsrface.commands.evaluate.result import Overlap
from dsrface.data.layout import FaceData, FaceSplit
from dsrface.data.training_record import digest_images, digest_persons, find_copies, find_training_record
from dsrface.models.loaded import LoadedModel

# By whether the record holds looks; earlier versions kept none.
_BOUNDS = {
    True: "by pixels, by copies that were compressed or resized again, and by names; other photos of the "
    "same people under other names would not be found",
    False: "by pixels and by names; copies that were compressed or resized again would not be found",
}


def find_overlaps(networks: Networks, split: FaceSplit) -> tuple[Overlap, ...]:
    """Compare the images and persons of a split with what each network's run was trained on."""
    records = {role: find_training_record(loaded.path) for role, loaded in _by_role(networks)}
    if not any(record is not None for record in records.values()):
        return tuple(Overlap(role, is_recorded=False) for role in records)
    images, persons = digest_images(split), digest_persons(split.persons)
    found = []
    for role, record in records.items():
        if record is None:
            found.append(Overlap(role, is_recorded=False))
            continue
        is_seen = np.array([pixels in record.images for pixels, _ in images])
        is_copy = find_copies([look for _, look in images], record) & ~is_seen
        found.append(
            Overlap(
                role,
                is_recorded=True,
                images=int(is_seen.sum()),
                persons=sum(digest in record.persons for digest in persons),
                copies=int(is_copy.sum()),
                has_looks=bool(len(record.looks)),
            )
        )
    return tuple(found)


def overlap_limits(overlaps: Sequence[Overlap], split: FaceSplit) -> list[str]:
    """Return a sentence for each network that has seen images or names of the split."""
    found = []
    for item in overlaps:
        if item.images:
            found.append(
                f"{item.images} of the {len(split)} images are among those that {item.network} was trained "
                "on: its figures flatter."
            )
        if item.copies:
            found.append(
                f"{item.copies} of the {len(split)} images look like copies of images that {item.network} "
                "was trained on: its figures flatter."
            )
        elif item.persons and not item.images:
            found.append(
                f"{item.persons} of the {len(split.persons)} persons have names of persons that "
                f"{item.network} was trained on: if they are the same people, its figures flatter."
            )
    return found


def unrecorded(overlaps: Sequence[Overlap]) -> list[str]:
    """Return a sentence on the networks whose training data is unknown."""
    unknown = [item.network for item in overlaps if not item.is_recorded]
    if not unknown:
        return []
    verb = "was" if len(unknown) == 1 else "were"
    what = f"What {' and '.join(unknown)} {verb} trained on is not recorded"
    return [f"{what}: overlap with these people cannot be ruled out."]


def overlap_details(overlaps: Sequence[Overlap]) -> list[str]:
    """Return the good news: which networks share neither an image nor a name with the split."""
    found = []
    for has_looks, bound in _BOUNDS.items():
        clean = [
            item.network
            for item in overlaps
            if item.is_recorded
            and item.has_looks == has_looks
            and not item.images + item.copies + item.persons
        ]
        if clean:
            found.append(f"No overlap with the training data of {' and '.join(clean)}, {bound}.")
    return found


def degradation_limits(networks: Networks, data: FaceData, vlr_size: int) -> list[str]:
    """Return a sentence for each network that was trained on VLR faces of another making."""
    here = data.degradation(vlr_size)
    if here is None:
        return []
    found = []
    for role, loaded in _by_role(networks):
        stored = loaded.metadata.get("degradation")
        kind = json.loads(stored).get("kind") if stored else None
        if kind is not None and kind != here.kind:
            found.append(
                f"{role} was trained on {kind} VLR faces, and these are {here.kind} ones: it cannot show "
                "here what it has learned."
            )
    return found


def enlarged_limits(data: FaceData) -> list[str]:
    """Return a sentence where HR faces were enlarged from few pixels, so that they are no twins."""
    enlarged = data.info.get("enlarged")
    if not enlarged:
        return []
    made_of = (
        f"{enlarged['num']} HR faces of the data set were enlarged from less than {enlarged['below_px']} px"
    )
    return [f"{made_of}: figures against them compare with detail that no photo has."]


def _by_role(networks: Networks) -> Iterable[tuple[str, LoadedModel]]:
    if networks.dsr is not None:
        yield "DSR", networks.dsr
    yield from networks.recognisers.items()
