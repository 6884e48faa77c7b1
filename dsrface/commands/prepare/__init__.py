"""`dsrface prepare`: photos to a data set with person-disjoint splits.

Everything is built in a hidden folder inside DATA and moved into place at the end, `dataset.json` last; so
DATA is a data set only when it is a whole one, and an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsrface.commands.prepare.alignment import LANDMARKS_FILE, Alignment, choose_alignment
from dsrface.commands.prepare.build import BY_HASH, build, check_persons, given_options, listed
from dsrface.commands.prepare.folder import (
    BAD_IMAGES_FILE,
    LISTS_KEY,
    LOCK_FILE,
    SEVERAL_FACES_FILE,
    content_sha256,
    digest,
    find_existing,
    move_into_place,
    remove_staging,
    staging_folder,
)
from dsrface.commands.prepare.records import escape_name
from dsrface.commands.shared.result import CommandResult
from dsrface.config.prepare import PrepareConfig
from dsrface.data.decode import walk_images
from dsrface.data.folders import DATASET_FILE, HIGH_FOLDER, NATIVE_FILE, SCHEMA_VERSION, person_of
from dsrface.data.photos.found_lists import options_from_lists
from dsrface.data.photos.scan import Scan, record_source, scan_photos
from dsrface.data.splits import split_persons
from dsrface.data.synthetic.photo_folder import DRAWN_MARK
from dsrface.errors import RunError, UsageError
from dsrface.events import Emit, Note
from dsrface.metrics.bootstrap import MIN_PERSONS
from dsrface.runtime.command_line import joined, quoted
from dsrface.runtime.files import sha256_json, write_json
from dsrface.runtime.locks import exclusive
from dsrface.runtime.text import count_text
from dsrface.types import HIGH_SIZE_PX, VLR_SIZES_PX


@dataclass(frozen=True)
class PrepareResult(CommandResult):
    """What `prepare` made.

    Args:
        status: `made`, `up to date`, `repaired` or `sizes added`.
        align: Where the landmarks came from, and why.
        counts: Persons and images of each split.
        bad_images: Photos left out, by reason.
        warnings: What somebody should look at.
    """

    status: str
    align: str
    counts: dict[str, dict[str, int]]
    bad_images: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def run(config: PrepareConfig, *, emit: Emit) -> PrepareResult:
    """Make a data set, or verify and repair the one that the same photos and settings made before.

    Raises:
        UsageError: the data set would lie inside the photos.
        DataError: no usable photo, too few persons, faces that cannot be aligned, or a bad photo with
            `on_bad_image="fail"`.
        RunError: DATA holds something else; the difference is named.
    """
    config = config.model_copy(update={"source": record_source(config.source)})
    _check_places(config.source, config.data)
    scan = scan_photos(config.source, persons=config.persons, split_from=config.split_from)
    emit(Note(scan.rule))
    if scan.split_rule:
        emit(Note(f"split: {scan.split_rule}"))
    for doubt in scan.doubts:
        emit(Note(doubt, is_warning=True))
    _tell_of_lists(config, scan, emit)
    alignment = choose_alignment(config, scan.photos)
    emit(Note(f"align: {alignment.reason}"))
    if alignment.doubt:
        emit(Note(alignment.doubt, is_warning=True))
    if not scan.splits:
        check_persons(config, {photo.person for photo in scan.photos}, scan.strays)
    settings = _settings(config, scan, alignment)
    files = sorted([photo.file for photo in scan.photos] + [item.file for item in scan.strays])
    source = {
        "name": config.source.resolve().name,
        "photos": len(files),
        "sha256": digest(config.source, files, emit, "reading photos"),
        "kind": "drawn" if (config.source / DRAWN_MARK).is_file() else "photos",
    }
    with exclusive(config.data / LOCK_FILE, what="data set"):
        info = find_existing(config.data, settings, source)
        has_all_sizes = info.get("settings", {}).get("vlr_sizes") == settings["vlr_sizes"]
        if info and has_all_sizes and info["content_sha256"] == content_sha256(config.data, info, emit):
            remove_staging(config.data)  # of a run that was killed when all was in place
            return _result(config, info, "up to date", alignment, emit)
        fingerprint = sha256_json({"settings": settings, "source": source["sha256"]})
        staging = staging_folder(config.data, fingerprint)
        built = build(config, staging, scan, alignment, emit)
        new_info = {"schema_version": SCHEMA_VERSION, "settings": settings, "source": source, **built}
        changed = move_into_place(staging / "tree", config.data)
        # The hash is over what is in DATA now, so that a foreign image cannot slip in unseen.
        new_info["content_sha256"] = content_sha256(config.data, new_info, emit)
        write_json(config.data / DATASET_FILE, new_info)
        shutil.rmtree(staging)
        if info and has_all_sizes:
            emit(Note(f"{changed} damaged or missing files were made again", is_warning=True))
        status = "made" if not info else "repaired" if has_all_sizes else "sizes added"
        return _result(config, new_info, status, alignment, emit)


def _tell_of_lists(config: PrepareConfig, scan: Scan, emit: Emit) -> None:
    """Warn of files in the source that say more about the photos than what was asked for."""
    given = {"--persons": config.persons, "--split-from": config.split_from, "--align": config.align}
    if not config.source.is_dir() or "auto" not in given.values():
        return
    files = [photo.file for photo in scan.photos]
    unused = {
        option: path
        for option, path in options_from_lists(config.source, files).items()
        if given[option] == "auto" and path.name != LANDMARKS_FILE
    }
    if unused:
        options = [*given_options(config), *(str(part) for option in unused.items() for part in option)]
        again = joined(["dsrface", "prepare", str(config.source), str(config.data), *options])
        names = ", ".join(path.name for path in unused.values())
        emit(
            Note(
                f"not used, but in the source and about these photos: {names}; to use it: {again}",
                is_warning=True,
            )
        )


def _check_places(source: Path, data: Path) -> None:
    here, there = source.resolve(), data.resolve()
    if there == here or here in there.parents:
        raise UsageError(
            "The data set would lie inside the photos, and be read as photos the next time.",
            id="data-inside-source",
            where=data,
            hint="Choose a folder outside SOURCE.",
        )
    if data.exists() and not data.is_dir():
        raise RunError("DATA exists and is not a folder.", id="folder-not-empty", where=data)


def _settings(config: PrepareConfig, scan: Scan, alignment: Alignment) -> dict[str, Any]:
    # Only where it is another one: data sets of earlier versions do not name it.
    high = {} if config.high_size == HIGH_SIZE_PX else {"high_size": config.high_size}
    from_lists = any(Path(rule).is_file() for rule in (config.persons, config.split_from))
    said = {photo.file: [photo.person, scan.splits.get(photo.person)] for photo in scan.photos}
    lists = {LISTS_KEY: sha256_json(said)} if from_lists else {}
    return (
        high
        | lists
        | {
            "vlr_sizes": list(config.vlr_sizes),
            "degradation": config.degradation,
            "seed": config.seed,
            "split": list(config.split),
            "align": alignment.kind,
            "landmarks_sha256": alignment.sha256,
            "faces": config.faces,
            "persons": config.persons,
            "split_from": config.split_from,
            "native": config.native,
        }
    )


def _result(
    config: PrepareConfig, info: Mapping[str, Any], status: str, alignment: Alignment, emit: Emit
) -> PrepareResult:
    counts = info["counts"]
    images = sum(item["images"] for item in counts.values())
    persons = sum(item["persons"] for item in counts.values())
    num_bad = sum(info["bad_images"].values())
    unpaired = () if config.native else _without_pairs(config.data, counts)
    warnings = (*_warnings(info), *_few_persons(config, info), *_enlarged(config, info), *unpaired)
    for text in warnings:
        emit(Note(text, is_warning=True))
    shares = ", ".join(
        f"{name} {count_text(item['persons'], 'person')} / {count_text(item['images'], 'image')}"
        for name, item in counts.items()
    )
    left_out = f"; {count_text(num_bad, 'photo')} left out, see {BAD_IMAGES_FILE}" if num_bad else ""
    made = f"{count_text(images, 'face')} of {count_text(persons, 'person')}"
    return PrepareResult(
        summary=f"{made}, {status}: {shares}{left_out}",
        location=str(config.data),
        next_command=_next_command(config, info),
        status=status,
        align=alignment.reason,
        counts=counts,
        bad_images=info["bad_images"],
        warnings=warnings,
    )


def _next_command(config: PrepareConfig, info: Mapping[str, Any]) -> str:
    data, counts = quoted(config.data), info["counts"]
    if info.get("enlarged", {}).get("num", 0) > sum(item["images"] for item in counts.values()) / 2:
        return _as_native(config)
    size_px = next((size for size in VLR_SIZES_PX if size in config.vlr_sizes), config.vlr_sizes[0])
    if config.native:
        low = {int(size): num for size, num in info["native_sizes"].items() if int(size) != HIGH_SIZE_PX}
        size_px = max(low, key=low.__getitem__, default=size_px)
    if size_px in VLR_SIZES_PX and {"train", "val"} <= counts.keys() and not config.native:
        return f"dsrface train-dsr {data} --vlr-size {size_px}"
    return f"dsrface evaluate {data} --vlr-size {size_px} --split {list(counts)[-1]}"


def _enlarged(config: PrepareConfig, info: Mapping[str, Any]) -> Iterable[str]:
    """Yield a warning where HR faces show detail that no photo has."""
    enlarged = info.get("enlarged")  # data sets of earlier versions do not count them
    if not enlarged:
        return
    images = sum(item["images"] for item in info["counts"].values())
    yield (
        f"{enlarged['num']} of {images} HR faces have less than {enlarged['below_px']} px in their photos "
        f"(median {enlarged['median_px']:.0f}) and were enlarged: they hold no detail to learn, and figures "
        f"against them say nothing; as native faces, without HR twins: {_as_native(config)}"
    )


def _as_native(config: PrepareConfig) -> str:
    options = given_options(config.model_copy(update={"native": True}))
    return joined(["dsrface", "prepare", str(config.source), f"{config.data}_native", *options])


def _without_pairs(data: Path, splits: Iterable[str]) -> Iterable[str]:
    """Yield a warning for each split that recognition cannot be measured on."""
    for split in (name for name in splits if name != "train"):
        persons = Counter(person_of(name) for name in walk_images(data / split / HIGH_FOLDER))
        if max(persons.values()) < 2:
            yield f"no person in the {split} split has two images: there is no genuine pair"


def _warnings(info: Mapping[str, Any]) -> Iterable[str]:
    bad = info["bad_images"]
    num_bad, num_good = sum(bad.values()), sum(item["images"] for item in info["counts"].values())
    if num_bad > num_good / 4:
        because = info.get("bad_images_because", "").rstrip(".")  # data sets of earlier versions lack it
        reason = f", most of them because of this: {because}" if because else ""
        left_out = f"{num_bad} of {num_bad + num_good} photos were left out: {listed(bad)}"
        yield f"{left_out}{reason}; see {BAD_IMAGES_FILE}"
    if unread := bad.get("unread-format", 0):
        yield f"{unread} files look like images of formats that are not read; {BAD_IMAGES_FILE} lists them"
    if several := info["num_several_faces"]:
        rule = info["settings"]["faces"]
        yield f"{several} photos show several faces; the {rule} was taken: see {SEVERAL_FACES_FILE}"
    if loose := info["num_not_aligned"]:
        yield f"{loose} faces were not found by the detector and taken as they are: see {NATIVE_FILE}"
    for group in info["persons_alike"]:
        yield f"these persons differ only in spelling: {', '.join(map(escape_name, group))}"
    if merged := info["persons_in_several_folders"]:
        yield f"{len(merged)} names occur in several folders and count as one person each, e.g. {merged[0]}"
    near = info["near_duplicates"]
    if near["num_pairs"]:
        across = [item for item in near["listed"] if item["splits"][0] != item["splits"][1]]
        first = (across or near["listed"])[0]
        names = f"{escape_name(first['first'])} and {escape_name(first['second'])}"
        yield (
            f"{near['num_pairs']} pairs of nearly equal images under different persons "
            f"({len(across)} of those listed lie across splits), e.g. {names}: "
            f"see near_duplicates in {DATASET_FILE}"
        )
    other = [str(size) for size in info["sizes"]["vlr_px"] if size not in VLR_SIZES_PX]
    if other and not info["native"]:
        taken = ", ".join(map(str, VLR_SIZES_PX))
        yield f"VLR faces of {', '.join(other)} px: only evaluate takes them, training only {taken} px"
    if info["native"]:
        sizes = ", ".join(f"{count} of {size} px" for size, count in info["native_sizes"].items())
        yield f"native faces without HR twins ({sizes}): evaluate and finetune take them, train-dsr does not"
    elif "val" not in info["counts"]:
        yield "there is no val split: train-dsr and finetune need one to choose checkpoints on"


def _few_persons(config: PrepareConfig, info: Mapping[str, Any]) -> Iterable[str]:
    """Yield a warning for each split with too few persons for what it is for, and the shares that mend it."""
    persons = {split: counts["persons"] for split, counts in info["counts"].items()}
    if persons.get("val", MIN_PERSONS) < MIN_PERSONS:
        yield (
            f"fewer than {MIN_PERSONS} validation persons: no threshold is chosen on them, which enrol and "
            "verify need"
        )
    if persons.get("test") == 1:
        yield "the test split has only one person, so recognition cannot be measured"
    elif persons.get("test", MIN_PERSONS) < MIN_PERSONS:
        yield f"the test split has {persons['test']} persons: evaluate judges nothing below {MIN_PERSONS}"
    is_few = min(persons.get("val", MIN_PERSONS), persons.get("test", MIN_PERSONS)) < MIN_PERSONS
    is_by_hash = info["split_rule"] == BY_HASH and not config.native
    if is_few and is_by_hash and (shares := _shares_for_enough(config, persons)):
        yield f"with --split {shares} val and test would have at least {MIN_PERSONS} persons each"


def _shares_for_enough(config: PrepareConfig, splits: Iterable[str]) -> str:
    """Return the smallest shares by which val and test have enough persons; empty where there are none."""
    persons = {person_of(name) for split in splits for name in walk_images(config.data / split / HIGH_FOLDER)}
    if len(persons) <= 2 * MIN_PERSONS:
        return ""
    for percent in (15, 20, 25, 30, 35):
        part, rest = percent / 100, (100 - 2 * percent) / 100
        split_of = split_persons(
            persons, fractions={"train": rest, "val": part, "test": part}, seed=config.seed
        )
        found = Counter(split_of.values())
        if min(found["val"], found["test"]) >= MIN_PERSONS:
            return f"{rest:g},{part:g},{part:g}"
    return ""
