"""Which photos a source folder holds, and whose they are."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dsrface.data.decode import IMAGE_SUFFIXES, has_image_suffix, unread_images, walk_images
from dsrface.data.folders import HIGH_FOLDER, benchmark_of_folders, is_data_folder
from dsrface.data.formats.bcolz_folder import bcolz_hint
from dsrface.data.formats.lists import majority_splits
from dsrface.data.formats.recordio import RECORD_SUFFIX, RecordFile, person_name
from dsrface.data.formats.validation_set import BIN_SUFFIX
from dsrface.data.photos.found_lists import options_from_lists
from dsrface.data.photos.persons import (
    Attribution,
    PersonRule,
    SplitRule,
    choose_person_rule,
    choose_split_rule,
    doubt_of_level,
    without_persons,
)
from dsrface.data.photos.source import is_record_file, open_source, record_name
from dsrface.data.splits import doubts_of_flat_names
from dsrface.errors import DataError, UsageError
from dsrface.runtime.command_line import joined, quoted, typed_instead, unpack_command
from dsrface.runtime.names import original_name, portable_name, same_file_key
from dsrface.types import SPLITS

_NAMING = "Put them in one folder per person, or name them <person>_<rest>.png."
_UNREAD_CONTAINERS = (".tfrecord", ".tfrecords", ".lmdb", ".mdb", ".parquet", ".arrow", ".h5", ".hdf5")
_NAMED = 3  # files in a message
_BEFORE_UNDERSCORE = r"(?P<person>[^/_]+)_[^/]*$"  # 17_cam1_0003.jpg
_BEFORE_NUMBER = r"(?P<person>[^/]+?)[-_. (]*\d+\)?\.\w+$"  # anna-1.jpg, anna (2).jpg
# What folders of cameras, days and collections are called.
_NO_PERSON = re.compile(
    r"(cam(era)?|view|angle|pose|session|seq(uence)?|dist(ance)?|site|day|date|night|frames?|videos?|clips?"
    r"|images?|imgs?|photos?|pic(ture)?s?|faces?|crops?|gallery|probes?|raw|aligned)[-_ .]*\d*"
    r"|\d{4}-\d\d-\d\d",
    re.IGNORECASE,
)
_SIZES_LOOKED_AT = 2000  # to tell aligned faces from photos


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of the source.

    Args:
        file: Relative to the source, with `/`.
        person: Name of the person, safe as a folder name everywhere.
        name: `<person>/<image>.png`, the name in the data set.
        conditions: What else a pattern says of it, e.g. camera and distance.
    """

    file: str
    person: str
    name: str
    conditions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BadPhoto:
    """A photo that was left out, with the reason (an error id) and a sentence."""

    file: str
    reason: str
    message: str


@dataclass(frozen=True)
class Scan:
    """What a source holds.

    Args:
        photos: Sorted by file.
        strays: Photos whose person or split is unknown, and images of formats that are not read.
        rule: How the persons were recognised, human-readable.
        doubts: What may be wrong with that, human-readable.
        merged: Persons whose photos are in folders of one name in several places.
        splits: Split that the user gave each person; empty when splits are not given.
        split_rule: Where those come from, human-readable.
    """

    photos: list[Photo]
    strays: list[BadPhoto]
    rule: str
    doubts: list[str]
    merged: list[str]
    splits: dict[str, str] = field(default_factory=dict)
    split_rule: str = ""


def scan_photos(source: Path, *, persons: str = "auto", split_from: str = "auto") -> Scan:
    """Find the photos, whose they are, and the splits that they were given.

    With folders, the person is the name of the folder at the level where most photos are, so that the folders
    which archives put around their persons do not matter; without, the text before the first underscore of
    `<person>_<rest>.png`. A RecordIO file says the person as a number.

    Args:
        source: A folder; or a `.rec` file, or a folder that holds one and no photo.
        persons: See `persons.choose_person_rule`.
        split_from: See `persons.choose_split_rule`.

    Raises:
        DataError: nothing of that, no photo, a data set, or a source that tells no person.
        UsageError: another `persons`.
    """
    if is_record_file(source):
        return _scan_records(source, persons, split_from)
    files = _find(source)
    split_rule = choose_split_rule(split_from, files)
    rule = choose_person_rule(persons, files, num_skipped=split_rule.num_folders)
    owned, strays = _tell_all(files, rule, split_rule)
    if not owned and any(item.reason == "no-split" for item in strays):
        raise DataError(
            f"{Path(split_from).name} names none of the {len(files)} photos and persons, e.g. {files[0]!r}.",
            id="bad-list-file",
            where=split_from,
            hint="A list of splits has a line for each photo or person, and its split: train, val or test.",
        )
    if not owned:
        raise DataError(
            f"It is unknown whose the {len(files)} photos are, e.g. {files[0]!r}: it {rule.why_not}.",
            id="no-person",
            where=source,
            hint=without_persons(persons, files, num_skipped=split_rule.num_folders)
            or _list_hint(source, files)
            + pattern_hint(files)
            + f"{_NAMING} --persons takes a folder level, a pattern or a list file.",
        )
    strays += [_unread(name) for name in unread_images(source)]
    photos = list(_named(owned))
    splits, several = majority_splits([(item.person, item.split) for item in owned if item.split])
    doubts = doubts_of_flat_names(files) if rule.is_flat else []
    told = {item.attribution.person for item in owned}
    benchmark = benchmark_of_folders(files) if persons == "auto" else None
    if persons == "auto" and not benchmark and (doubt := _doubt_of_folders(told, files)):
        doubts.append(doubt)
    if benchmark:
        doubts.append(
            f"the source is laid out as {benchmark}, whose folders are not all persons: dsrface evaluate "
            f"{quoted(source)} --protocol {benchmark} --vlr-size 16 measures it; to train, name the folder "
            "of persons in it"
        )
    if persons == "auto" and (doubt := doubt_of_level([item.attribution for item in owned])):
        doubts.append(doubt)
    if several:
        doubts.append(
            f"{len(several)} persons are in several of the given splits, e.g. {several[0]!r}; each goes to "
            "the one of most of their photos"
        )
    example = f"e.g. {photos[0].file!r} is of {photos[0].person!r}"
    return Scan(
        photos, strays, f"persons: {rule.text}, {example}", doubts, _merged(owned), splits, split_rule.text
    )


def record_source(source: Path) -> Path:
    """Return the one `.rec` file of a folder without photos, else the source itself."""
    if source.is_dir():
        records = sorted(filter(is_record_file, source.iterdir()))
        if len(records) == 1 and next(walk_images(source), None) is None:
            return records[0]
    return source


def _scan_records(source: Path, persons: str, split_from: str) -> Scan:
    if persons != "auto" or split_from not in {"auto", "none"}:
        raise UsageError(
            "A RecordIO file says itself whose each image is; --persons and --split-from are for photos.",
            id="bad-persons",
        )
    photos: list[Photo] = []
    bad: list[BadPhoto] = []
    with RecordFile(source) as records:
        for place in records.places():
            name = record_name(place.key, place.offset)
            if place.label is None:
                bad.append(BadPhoto(name, "damaged-record", place.problem))
            else:
                person = person_name(place.label)
                photos.append(Photo(name, person, f"{person}/{place.key:08d}.png"))
    if not photos:
        raise DataError("The file holds no image.", id="no-photos", where=source)
    rule = f"persons: the labels of {source.name}, e.g. record {photos[0].file} is of {photos[0].person!r}"
    return Scan(photos, bad, rule, [], [])


def photo_sizes(source: Path, photos: Sequence[Photo]) -> list[tuple[int, int]]:
    """Return (width, height) of the readable photos, by their headers.

    Of more than 2000 photos, some of everywhere are looked at.
    """
    sizes = []
    opened = open_source(source)
    for photo in photos[:: max(1, len(photos) // _SIZES_LOOKED_AT)]:
        with contextlib.suppress(DataError):
            sizes.append(opened.size(photo.file))
    return sizes


def alike_persons(photos: Sequence[Photo]) -> list[list[str]]:
    """Return groups of person names that differ only in case, spaces or punctuation."""
    groups: dict[str, set[str]] = {}
    for photo in photos:
        plain = re.sub(r"~\d+$", "", unicodedata.normalize("NFKC", original_name(photo.person)))
        key = re.sub(r"[\s_.\-]+", "", plain).casefold()
        groups.setdefault(key, set()).add(photo.person)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


@dataclass(frozen=True)
class _Owned:
    """A photo whose person is known."""

    file: str
    person: str
    attribution: Attribution
    split: str


def _list_hint(source: Path, files: list[str]) -> str:
    found = options_from_lists(source, files).get("--persons")
    return f"{found.name} says it: --persons {quoted(found)}. " if found else ""


def pattern_hint(files: Sequence[str]) -> str:
    """Return the option that takes what stands before the first underscore or the last number of a name.

    It is empty where neither makes sense.
    """
    patterns = {"the first underscore": _BEFORE_UNDERSCORE, "the last number": _BEFORE_NUMBER}
    for what, pattern in patterns.items():
        tell = choose_person_rule(pattern, files).tell
        persons = Counter(found.person for file in files if (found := tell(file)) is not None)
        if 1 < len(persons) < persons.total() == len(files):
            shown = ", ".join(sorted(persons)[:_NAMED])
            option = joined(["--persons", pattern])
            return f"By the text before {what} there are {len(persons)}, such as {shown}: {option}\n"
    return ""


def _doubt_of_folders(persons: Collection[str], files: Sequence[str]) -> str:
    """Return what to try where all folders that were taken for persons are called like cameras or days."""
    if len(persons) < 2 or not all(map(_NO_PERSON.fullmatch, persons)):
        return ""
    shown = ", ".join(sorted(persons)[:_NAMED])
    way = pattern_hint(files).rstrip() or "--persons takes a folder level, a pattern or a list file"
    return f"the folders {shown} are taken for persons and do not sound like such. {way}"


def _file_hint(source: Path) -> str:
    """Return what to do with a file that was named as a source."""
    if source.suffix.lower() == BIN_SUFFIX:
        return f"A set for verification is measured: dsrface evaluate {quoted(source)} --vlr-size 16"
    if has_image_suffix(source.name):
        return (
            f"A data set is made of the folder: {_prepare(source.parent, source)}\n"
            f"A photo alone can be compared: dsrface verify {quoted(source)} OTHER --weights RECOGNISER"
        )
    return "Name the folder of the photos, or a RecordIO file: train.rec."


def _prepare(folder: Path, source: Path) -> str:
    """Return the command that takes another folder than the one that was named."""
    return typed_instead(source, folder) or f"dsrface prepare {quoted(folder)} DATA"


def _container_hint(source: Path) -> str:
    """Return what to do with the files of images that a folder holds; empty where it holds none."""
    found = [path for suffix in (RECORD_SUFFIX, BIN_SUFFIX) for path in sorted(source.glob(f"*{suffix}"))]
    if not found:
        return next(filter(None, map(_packed_hint, sorted(source.rglob("*")))), "")
    names = ", ".join(path.name for path in found[:_NAMED])
    first = quoted(found[0])
    if found[0].suffix == RECORD_SUFFIX:
        return f"It holds {names}; name one: dsrface prepare {first} DATA"
    return f"It holds {names}, which are measured: dsrface evaluate {first} --vlr-size 16"


def _packed_hint(path: Path) -> str:
    if unpack := unpack_command(path):
        return f"It holds {path.name}; unpack it: {unpack}"
    if path.suffix.lower() not in _UNREAD_CONTAINERS:
        return ""
    return f"It holds {path.name}, which is not read: write its images as files. {_NAMING}"


def check_photo_source(source: Path) -> None:
    """Make sure that a source is a RecordIO file, or a folder that holds one or a photo.

    Raises:
        DataError: it is something else.
    """
    if is_record_file(record_source(source)):
        return
    if not source.is_dir():
        raise DataError(
            "The source is not a folder." if source.exists() else "The source folder does not exist.",
            id="no-source",
            where=source,
            hint=_file_hint(source),
        )
    if next(walk_images(source), None) is None:
        raise DataError(
            "There is no photo in the source folder.",
            id="no-photos",
            where=source,
            hint=bcolz_hint(source)
            or _container_hint(source)
            or f"Photos are files named {', '.join(sorted(IMAGE_SUFFIXES))}, not hidden. {_NAMING}",
        )


def _find(source: Path) -> list[str]:
    check_photo_source(source)
    files = list(walk_images(source))
    _refuse_data_set(source, files)
    return files


def _tell_all(
    files: Sequence[str], rule: PersonRule, split_rule: SplitRule
) -> tuple[list[_Owned], list[BadPhoto]]:
    owned, strays = [], []
    persons = _Unique()
    for file in files:
        attribution = rule.tell(file)
        split = split_rule.split(file) or ""
        if attribution is not None and not split:  # a list may say the split of each person
            split = split_rule.split(attribution.person) or ""
        if attribution is None:
            message = f"The photo {rule.why_not}: it is unknown whose it is."
            strays.append(BadPhoto(file, "no-person", message))
        elif split_rule.text and not split:
            strays.append(BadPhoto(file, "no-split", "The list of splits does not name the photo."))
        else:
            owned.append(_Owned(file, persons.name(attribution.person), attribution, split))
    return owned, strays


def _merged(owned: Sequence[_Owned]) -> list[str]:
    places: dict[str, set[str]] = {}
    for item in owned:
        places.setdefault(item.person, set()).add(item.attribution.place)
    return sorted(person for person, found in places.items() if len(found) > 1)


def _unread(file: str) -> BadPhoto:
    message = "The file looks like an image of a format that is not read; convert it to PNG or JPEG."
    return BadPhoto(file, "unread-format", message)


def _named(owned: Sequence[_Owned]) -> Iterator[Photo]:
    """Yield the photos under names that no other has on any system."""
    stems = [portable_name(item.attribution.stem) for item in owned]
    names = Counter(same_file_key(f"{item.person}/{stem}") for item, stem in zip(owned, stems, strict=True))
    used: set[str] = set()
    for item, stem in zip(owned, stems, strict=True):
        # a.jpg next to a.png: the suffix goes into the name.
        is_alone = names[same_file_key(f"{item.person}/{stem}")] == 1
        own = base = stem if is_alone else f"{stem}_{portable_name(item.file.rpartition('.')[2])}"
        number = 2
        while same_file_key(f"{item.person}/{own}") in used:
            own, number = f"{base}_{number}", number + 1
        used.add(same_file_key(f"{item.person}/{own}"))
        yield Photo(item.file, item.person, f"{item.person}/{own}.png", item.attribution.conditions)


def _refuse_data_set(source: Path, files: Sequence[str]) -> None:
    """Refuse a data set: its split folders would pass for persons, and its VLR faces for photos."""
    for file in files:
        for folder in PurePosixPath(file).parents:
            if is_data_folder(folder.name):
                inside = source / folder
                root = inside.parent.parent if inside.parent.name in SPLITS else inside.parent
                faces = next(iter(sorted(root.glob(f"train/{HIGH_FOLDER}"))), root / HIGH_FOLDER)
                raise DataError(
                    f"This is a data set already, not photos: there is {str(folder)!r}.",
                    id="source-is-data-set",
                    where=source,
                    hint=f"Look at it as it is: dsrface doctor {quoted(root)} --for train-dsr\n"
                    f"Or make another one of its faces: {_prepare(faces, source)}",
                )


class _Unique:
    """Safe folder names that never merge two persons."""

    def __init__(self) -> None:
        self._by_raw: dict[str, str] = {}
        self._taken: set[str] = set()

    def name(self, raw: str) -> str:
        if raw not in self._by_raw:
            base = safe = portable_name(raw)
            number = 2
            while same_file_key(safe) in self._taken:
                safe, number = f"{base}~{number}", number + 1
            self._taken.add(same_file_key(safe))
            self._by_raw[raw] = safe
        return self._by_raw[raw]
