"""Where the images of a data set are, for `prepare`'s own layout and for flat folders that people already
have.

DATA/dataset.json, DATA/{train,val,test}/{hr_images,vlr_images_16x16,...}/<person>/<image>.png
DATA/{hr_images,vlr_images,dsr_outputs}/<person>_<rest>.png         flat, also below DATA/train, val, test
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsrface.data.decode import image_size, walk_images
from dsrface.data.degrade import Degradation
from dsrface.data.folders import (
    HIGH_FOLDER,
    HR_CACHE_FOLDER,
    PLAIN_LOW_FOLDER,
    PLAIN_OUTPUTS_FOLDER,
    check_root,
    low_size_px,
    no_such_vlr_size,
    no_twins,
    outputs_folder,
    person_of,
    read_info,
)
from dsrface.data.names import PackedStrings
from dsrface.data.splits import doubts_of_flat_names, split_persons
from dsrface.errors import DataError
from dsrface.runtime.command_line import quoted
from dsrface.runtime.text import count_text
from dsrface.types import HIGH_SIZE_PX, SPLITS


@dataclass(frozen=True)
class FaceSplit:
    """One split: its images by name, their persons, and the folders they are in.

    Args:
        name: `train`, `val` or `test`.
        root: Folder that holds `hr_images` and its neighbours.
        names: Relative names, sorted: `<person>/<image>.png`, or flat `<person>_<rest>.png`. In a native data
            set those of all its folders: a face is in one of them.
        labels: int64 [N], position of each image's person in `persons`.
        persons: Names of the persons, sorted.
        low_folders: VLR size in pixels to folder name.
        high_px: Side of its HR faces, in pixels.
    """

    name: str
    root: Path
    names: PackedStrings
    labels: Tensor
    persons: PackedStrings
    low_folders: dict[int, str] = field(default_factory=dict)
    high_px: int = HIGH_SIZE_PX

    def __len__(self) -> int:
        return len(self.names)

    @property
    def high_dir(self) -> Path:
        """Folder of the HR faces."""
        return self.root / HIGH_FOLDER

    @property
    def hr_column_dir(self) -> Path:
        """Folder where a packed cache keeps the HR faces."""
        return self.root / HR_CACHE_FOLDER

    def low_dir(self, size_px: int) -> Path:
        """Return the folder of the VLR faces of a size.

        Raises:
            DataError: the data set has no such size.
        """
        if size_px not in self.low_folders:
            raise no_such_vlr_size(self.name, self.root, size_px, self.low_folders)
        return self.root / self.low_folders[size_px]

    def outputs_dir(self, size_px: int) -> Path:
        """Return the folder for what a DSR makes of the VLR faces of a size; it need not exist."""
        is_plain = self.low_folders.get(size_px) == PLAIN_LOW_FOLDER
        return self.root / (PLAIN_OUTPUTS_FOLDER if is_plain else outputs_folder(size_px))

    def face_path(self, name: str) -> Path:
        """Return the file of an image: its HR face, or its VLR face where there is no HR face."""
        folders = (HIGH_FOLDER, *self.low_folders.values())
        paths = [self.root / folder / name for folder in folders]
        return next((path for path in paths if path.exists()), paths[0])

    def at(self, size_px: int) -> FaceSplit:
        """Return the split with those images only that have a VLR face of a size; for native data sets.

        Raises:
            DataError: as `low_dir`.
        """
        names = list(walk_images(self.low_dir(size_px)))
        return make_split(self.name, self.root, names, low_folders=self.low_folders)

    def subset(self, indices: Sequence[int]) -> FaceSplit:
        """Return the split with these images only; persons and labels keep their numbers."""
        names = PackedStrings.from_list([self.names[index] for index in indices])
        return replace(self, names=names, labels=self.labels[list(indices)])

    def check_twins(self, folder: Path) -> set[str]:
        """Make sure that every image of the split is also in `folder`; return what is there.

        Raises:
            DataError: how many are missing there, and the first of them.
        """
        if not folder.is_dir():
            raise DataError("The folder does not exist.", id="folder-missing", where=folder)
        present = set(walk_images(folder))
        missing = [name for name in self.names if name not in present]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self)} images of the {self.name} split are missing, "
                f"first {missing[0]!r}.",
                id="twin-missing",
                where=folder,
                hint="HR, VLR and DSR images must have the same names.",
            )
        return present


@dataclass(frozen=True)
class FaceData:
    """A data set: its three splits and what is known of how it was made.

    Args:
        root: The folder the user named.
        splits: Split by name.
        info: Content of `dataset.json`; empty for flat folders.
        notes: What the reader assumed or found odd.
    """

    root: Path
    splits: dict[str, FaceSplit]
    info: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> FaceSplit:
        """Return a split.

        Raises:
            DataError: the data set has no such split.
        """
        if name not in self.splits:
            there = " or ".join(f"--split {known}" for known in self.splits)
            raise DataError(
                f"There is no {name} split (there is: {', '.join(self.splits)}).",
                id="no-such-split",
                where=self.root,
                hint=f"`dsrface evaluate` takes {there}. For a {name} split prepare the photos again with "
                "a share for it, e.g. --split 0.8,0.1,0.1",
            )
        return self.splits[name]

    @property
    def high_px(self) -> int:
        """Side of its HR faces, in pixels."""
        return next((split.high_px for split in self.splits.values()), HIGH_SIZE_PX)

    @property
    def is_native(self) -> bool:
        """Whether its VLR faces are photos of that size, without HR twins."""
        return bool(self.info.get("native"))

    def require_twins(self) -> None:
        """Refuse a native data set.

        Raises:
            DataError: it is one.
        """
        if self.is_native:
            raise no_twins(self.root)

    def check_twins(self, size_px: int, *split_names: str) -> list[str]:
        """Make sure that every HR face of some splits has its VLR face.

        Returns:
            A sentence for each folder whose VLR faces are not used because no HR image matches.

        Raises:
            DataError: no such split or size, or a VLR face is missing; a native data set.
        """
        self.require_twins()
        doubts: dict[Path, str] = {}
        for split in map(self.split, split_names):
            folder = split.low_dir(size_px)
            high = {
                name for other in self.splits.values() if other.root == split.root for name in other.names
            }
            unmatched = sorted(split.check_twins(folder) - high)
            if unmatched:
                doubts[folder] = (
                    f"{count_text(len(unmatched), 'VLR face')} without an HR face of its name, not used, in "
                    f"{folder}: first {unmatched[0]!r}"
                )
        return list(doubts.values())

    @property
    def vlr_sizes(self) -> tuple[int, ...]:
        """VLR sizes that every split has, in pixels, ascending."""
        sizes = [set(split.low_folders) for split in self.splits.values()]
        return tuple(sorted(set.intersection(*sizes))) if sizes else ()

    @property
    def source_digest(self) -> str:
        """SHA-256 that changes with the data: `prepare`'s content hash, or one of names and file sizes."""
        if "content_sha256" in self.info and not _changes_since(self.info, self.splits):
            return str(self.info["content_sha256"])
        total = hashlib.sha256()
        for split in self.splits.values():
            for name in split.names:
                size = split.face_path(name).stat().st_size
                total.update(f"{split.name}\0{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def degradation(self, size_px: int) -> Degradation | None:
        """Return how the VLR faces of a size were made, or None when it is not recorded."""
        stored = self.info.get("degradations", {}).get(str(size_px))
        return Degradation.from_dict(stored) if stored else None


def open_data(path: Path, *, high_sizes: Sequence[int] = (HIGH_SIZE_PX,)) -> FaceData:
    """Find the splits of a data set.

    Flat folders need not have all three: see `_derive`. Every command derives the same.

    Args:
        path: Its folder.
        high_sizes: Sides of HR faces that are taken, in pixels.

    Raises:
        DataError: no folder, no images, HR faces of another size, or a damaged or newer `dataset.json`.
    """
    check_root(path)
    info = read_info(path)
    high_px = info.get("sizes", {}).get("high_px", HIGH_SIZE_PX)
    if high_px not in high_sizes:
        raise DataError(
            f"The HR faces of this data set have {high_px} px; recognisers take {HIGH_SIZE_PX} px.",
            id="wrong-hr-size",
            where=path,
            hint="`train-dsr` and `evaluate` take it; for the rest, prepare the photos without --high-size.",
        )
    is_native = bool(info.get("native"))
    needed = "" if is_native else HIGH_FOLDER
    roots = {name: path / name for name in SPLITS if (path / name / needed).is_dir()}
    if not roots and (path / HIGH_FOLDER).is_dir():
        roots = {"train": path}
    splits = {name: _scan(name, root, is_native=is_native) for name, root in roots.items()}
    notes: list[str] = []
    notes += _changes_since(info, splits)
    if not info:
        _derive(splits, notes)
        _note_shared(splits, notes)
        notes += doubts_of_flat_names(name for split in splits.values() for name in split.names)
    ordered = {name: replace(splits[name], high_px=high_px) for name in SPLITS if name in splits}
    return FaceData(path, ordered, info, tuple(notes))


def person_labels(names: Iterable[str]) -> tuple[Tensor, PackedStrings]:
    """Return int64 [N], the position of each relative name's person, and the persons, sorted."""
    owners = [person_of(name) for name in names]
    persons = sorted(set(owners))
    position = {person: number for number, person in enumerate(persons)}
    labels = torch.tensor([position[owner] for owner in owners], dtype=torch.int64)
    return labels, PackedStrings.from_list(persons)


def make_split(name: str, root: Path, names: Iterable[str], *, low_folders: dict[int, str]) -> FaceSplit:
    """Return a split of the given relative names, with labels by person."""
    ordered = sorted(names)
    return FaceSplit(name, root, PackedStrings.from_list(ordered), *person_labels(ordered), low_folders)


def _hint_for_flat(whole: FaceSplit) -> str:
    """Return how to make a data set whose persons follow from more than the text before an underscore."""
    from dsrface.data.photos.scan import pattern_hint  # which reads photos of any kind

    instead = pattern_hint(list(whole.names))
    make = f"dsrface prepare {quoted(whole.root / HIGH_FOLDER)} DATA --persons PATTERN"
    return f"{instead}Make a data set by that: {make}" if instead else ""


def _scan(name: str, root: Path, *, is_native: bool) -> FaceSplit:
    low_folders = {size_px: entry for entry in sorted(os.listdir(root)) if (size_px := low_size_px(entry))}
    own = (HIGH_FOLDER, *(low_folders.values() if is_native else ()))
    present = [folder for folder in own if (root / folder).is_dir()]
    names = {image for folder in present for image in walk_images(root / folder)}
    if not names:
        raise DataError("The folder holds no images.", id="empty-split", where=root / HIGH_FOLDER)
    if (root / PLAIN_LOW_FOLDER).is_dir():
        first = next(walk_images(root / PLAIN_LOW_FOLDER), None)
        if first is not None:
            plain = image_size(root / PLAIN_LOW_FOLDER / first)[0]
            low_folders.setdefault(plain, PLAIN_LOW_FOLDER)
    return make_split(name, root, names, low_folders=low_folders)


def _changes_since(info: Mapping[str, Any], splits: Mapping[str, FaceSplit]) -> list[str]:
    """Return a sentence for each split that has more or fewer faces than `prepare` has made."""
    made = {name: int(count["images"]) for name, count in info.get("counts", {}).items()}
    found = {name: len(splits[name]) if name in splits else 0 for name in made}
    return [
        f"The {name} split holds {found[name]} faces; `dsrface prepare` has made {made[name]}"
        for name in made
        if found[name] != made[name]
    ]


def _derive(splits: dict[str, FaceSplit], notes: list[str]) -> None:
    """Take the persons of missing splits out of those that are there.

    A missing test split comes out of val, whose persons the user has chosen for measuring; everything else
    comes out of train.
    """
    missing = [name for name in SPLITS if name not in splits]
    if not missing:
        return
    source, fractions = "train", {"train": 0.8, "val": 0.1, "test": 0.1}
    if missing == ["test"]:
        source, fractions = "val", {"val": 0.5, "test": 0.5}
    elif missing == ["val"]:
        source, fractions = "train", {"train": 0.9, "val": 0.1}
    whole = splits[source]
    try:
        chosen = split_persons(whole.persons, fractions=fractions)
    except DataError as error:
        raise DataError(
            error.message, id=error.id, where=whole.root, hint=_hint_for_flat(whole) or error.hint
        ) from None
    for name in fractions:
        names = [item for item in whole.names if chosen[person_of(item)] == name]
        splits[name] = make_split(name, whole.root, names, low_folders=whole.low_folders)
    notes.append(
        f"{' and '.join(missing)} derived from {source} by person: "
        + ", ".join(f"{name} {count_text(len(splits[name].persons), 'person')}" for name in SPLITS)
    )


def _note_shared(splits: dict[str, FaceSplit], notes: list[str]) -> None:
    names = list(splits)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            shared = sorted(set(splits[first].persons) & set(splits[second].persons))
            if shared:
                notes.append(
                    f"{len(shared)} persons are in both {first} and {second} (first {shared[0]!r}): "
                    "results on them are not results on new persons"
                )
