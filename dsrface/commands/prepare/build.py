"""The work of `prepare`: photos to faces, persons to splits, all in a staging folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsrface.commands.prepare import records
from dsrface.commands.prepare.alignment import Alignment, likely_way
from dsrface.commands.prepare.folder import BAD_IMAGES_FILE
from dsrface.commands.prepare.records import escape_name
from dsrface.commands.shared.workers import announced
from dsrface.config.prepare import PrepareConfig
from dsrface.data.decode import has_image_suffix, walk_images
from dsrface.data.degrade import Degradation
from dsrface.data.folders import HIGH_FOLDER, low_folder
from dsrface.data.photos.duplicates import equal_across_persons
from dsrface.data.photos.faces import FaceDone, FaceJob
from dsrface.data.photos.found_lists import options_from_lists
from dsrface.data.photos.pool import CHUNK_PHOTOS, PhotoWork, process_photos
from dsrface.data.photos.scan import BadPhoto, Photo, Scan, alike_persons, pattern_hint, photo_sizes
from dsrface.data.splits import complete_splits, split_persons
from dsrface.doctor.sizing.loader_model import WorkerChoice
from dsrface.doctor.sizing.recommend import auto_workers
from dsrface.errors import DataError, ImageError
from dsrface.events import Emit, Progress
from dsrface.runtime.command_line import joined
from dsrface.runtime.files import replace as replace_file
from dsrface.runtime.files import write_text
from dsrface.types import SPLITS

BY_HASH = "whole persons, by a hash of seed and name against the shares"
_THUMBS_FILE = "thumbs"
_WHY = "That file says for each photo why."
_UNALIGNED_HINT = "Raw photos need --align auto or landmarks; aligned squares above 112 px --align resize."
_INLINE_BELOW = 64  # starting processes costs more than so few photos


def build(
    config: PrepareConfig,
    staging: Path,
    scan: Scan,
    alignment: Alignment,
    emit: Emit,
) -> dict[str, Any]:
    """Fill `staging / "tree"` with the whole data set and return its part of `dataset.json`."""
    degradations = tuple(Degradation(config.degradation, size, config.seed) for size in config.vlr_sizes)
    job = FaceJob(
        config.source,
        staging,
        degradations,
        alignment.kind,
        config.faces,
        config.native,
        config.high_size,
        alignment.is_relative,
    )
    done, bad = _process_all(config, job, scan, alignment, emit)
    folders = [HIGH_FOLDER, *(low_folder(size) for size in config.vlr_sizes)]
    kept, twins = _drop_twins(done, staging, folders)
    if twins and config.on_bad_image == "fail":
        _fail(config, twins[0])
    done = [done[row] for row in kept]
    bad = sorted([*bad, *twins], key=lambda item: item.file)
    write_text(config.data / BAD_IMAGES_FILE, records.bad_images_csv(bad))  # also for a run that fails now
    if not done:
        raise DataError(
            f"None of {len(bad)} photos can be used: {listed(Counter(item.reason for item in bad))}.",
            id="nothing-usable",
            where=config.data / BAD_IMAGES_FILE,
            hint="\n".join(filter(None, [_main_reason(bad), _WHY, _other_way(config, scan, alignment)])),
        )
    splits = _splits(config, scan, done, bad)
    tree = staging / "tree"
    _move_persons(staging, tree, splits, folders)
    records.write_preview(tree, done, splits, config.vlr_sizes, config.high_size)
    if config.native:
        records.write_native_faces(tree, done, splits)
    return {
        "native": config.native,
        "sizes": {"high_px": config.high_size, "vlr_px": list(config.vlr_sizes)},
        "degradations": {} if config.native else {str(i.size_px): i.to_dict() for i in degradations},
        "split_rule": scan.split_rule or BY_HASH,
        "counts": records.count_images(done, splits),
        "native_sizes": records.count_sizes(done) if config.native else {},
        "num_not_aligned": sum(not item.is_aligned for item in done),
        "enlarged": records.count_enlarged(done, config.high_size) if not config.native else {},
        "num_several_faces": records.write_several_faces(config.data, done),
        "bad_images": dict(sorted(Counter(item.reason for item in bad).items())),
        "bad_images_because": _main_reason(bad),
        "persons_alike": alike_persons([item.photo for item in done])[: records.MAX_LISTED],
        "persons_in_several_folders": scan.merged[: records.MAX_LISTED],
        # Native faces of a few pixels look alike whoever they are.
        "near_duplicates": {"num_pairs": 0, "listed": []}
        if config.native
        else records.near_duplicates(staging / _THUMBS_FILE, kept, done, splits),
    }


def _main_reason(bad: Sequence[BadPhoto]) -> str:
    """Return what more than half of the bad photos have in common, as a line; empty where nothing is."""
    messages = Counter(item.message for item in bad)
    [(message, count)] = messages.most_common(1) or [("", 0)]
    return message if count > max(1, len(bad) / 2) else ""


def _other_way(config: PrepareConfig, scan: Scan, alignment: Alignment) -> str:
    """Return how photos are taken that no landmarks were sought for."""
    if alignment.kind != "none" or config.native:
        return ""
    return likely_way(config, photo_sizes(config.source, scan.photos)).rstrip() or _UNALIGNED_HINT


def check_persons(config: PrepareConfig, persons: Collection[str], bad: Sequence[BadPhoto]) -> None:
    """Make sure that every split can have a person; early, and again when bad photos are out.

    Raises:
        DataError: too few persons, with what was left out.
    """
    wanted = [name for name, share in zip(SPLITS, config.split, strict=True) if share > 0]
    if len(persons) >= len(wanted):
        return
    reasons = listed(Counter(item.reason for item in bad))
    left_out = f"; left out: {reasons}, first {bad[0].file}" if bad else ""
    found = f"there {'is' if len(persons) == 1 else 'are'} only {' and '.join(sorted(persons))}"
    raise DataError(
        f"{len(wanted)} splits ({', '.join(wanted)}) need a person each; "
        f"{found if persons else 'no photo can be used'}{left_out}.",
        id="too-few-persons",
        where=config.source,
        hint=_level_hint(config)
        + (_one_person_hint(config) if config.persons == "auto" and config.source.is_dir() else "")
        + "Add persons, or ask for fewer splits, such as train alone:\n"
        + joined(["dsrface", "prepare", str(config.source), str(config.data), *given_options(config)])
        + " --split 1,0,0",
    )


def given_options(config: PrepareConfig) -> list[str]:
    """Return the options that say what the photos are, where they are not left to be found."""
    given = {"--persons": config.persons, "--split-from": config.split_from, "--align": config.align}
    options = [part for option, value in given.items() if value != "auto" for part in (option, value)]
    return [*(["--native"] if config.native else []), *options]


def _one_person_hint(config: PrepareConfig) -> str:
    """Return another rule where one folder, or the text before the underscores, is not the person."""
    names = list(walk_images(config.source))
    if listed := options_from_lists(config.source, names).get("--persons"):
        options = ["--persons", str(listed), *given_options(config)]
        again = joined(["dsrface", "prepare", str(config.source), str(config.data), *options])
        return f"{listed.name} says whose the photos are: {again}\n"
    return pattern_hint(names) if len({name.rpartition("/")[0] for name in names}) == 1 else ""


def _level_hint(config: PrepareConfig) -> str:
    """Return the command for the folder above, where the source is one person's folder of several there."""
    above = config.source.resolve().parent
    is_person = config.source.is_dir() and any(has_image_suffix(name) for name in os.listdir(config.source))
    persons = [entry for entry in above.iterdir() if entry.is_dir()] if is_person else []
    if len(persons) < len(SPLITS):
        return ""
    again = joined(["dsrface", "prepare", os.path.relpath(above), str(config.data)])
    return f"{os.path.relpath(above)} holds {len(persons)} folders like this one; did you mean\n{again}\n"


def listed(reasons: Mapping[str, int]) -> str:
    """Return the most common reasons with their numbers."""
    return ", ".join(f"{reason} {number}" for reason, number in Counter(reasons).most_common(4))


def _splits(
    config: PrepareConfig, scan: Scan, done: Sequence[FaceDone], bad: Sequence[BadPhoto]
) -> dict[str, str]:
    persons = {item.photo.person for item in done}
    fractions = dict(zip(SPLITS, config.split, strict=True))
    if scan.splits:
        given = {person: scan.splits[person] for person in persons}
        return complete_splits(given, fractions=fractions, seed=config.seed)
    check_persons(config, persons, bad)
    return split_persons(persons, fractions=fractions, seed=config.seed)


def _move_persons(staging: Path, tree: Path, splits: Mapping[str, str], folders: Sequence[str]) -> None:
    for person, split in splits.items():
        for folder in folders:
            if not (staging / folder / person).is_dir():
                continue  # a native person without a face of this size
            target = tree / split / folder / person
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(staging / folder / person, target)


def _process_all(
    config: PrepareConfig,
    job: FaceJob,
    scan: Scan,
    alignment: Alignment,
    emit: Emit,
) -> tuple[list[FaceDone], list[BadPhoto]]:
    done: list[FaceDone] = []
    photos, bad = scan.photos, list(scan.strays)
    if bad and config.on_bad_image == "fail":
        _fail(config, bad[0])
    workers = config.workers
    if workers == "auto":
        workers = _auto_workers(job, photos, alignment, emit)
    every = max(1, len(photos) // 200)
    results = process_photos(job, photos, alignment.landmarks, num_workers=workers)
    with (job.staging / _THUMBS_FILE).open("wb") as thumbs:
        for number, item in enumerate(results, start=1):
            if isinstance(item, FaceDone):
                thumbs.write(item.thumb)
                # The scan's own photo: a worker sends a copy, some hundred bytes each.
                done.append(replace(item, photo=photos[number - 1], thumb=b""))
            elif config.on_bad_image == "fail":
                _fail(config, item)
            else:
                bad.append(item)
            if number % every == 0 or number == len(photos):
                emit(Progress("faces", number, len(photos)))
    return done, bad


def _auto_workers(job: FaceJob, photos: Sequence[Photo], alignment: Alignment, emit: Emit) -> int:
    if len(photos) < _INLINE_BELOW:
        reason = f"{len(photos)} photos are done before a process has started"
        return announced(WorkerChoice(0, reason), emit)
    work = PhotoWork(job, photos, alignment.landmarks)
    return announced(auto_workers(work, batch_size=CHUNK_PHOTOS), emit)


def _fail(config: PrepareConfig, bad: BadPhoto) -> None:
    raise ImageError(
        bad.message,
        id=bad.reason,
        where=config.source / bad.file,
        hint="--on-bad-image skip lists such photos and goes on.",
    )


def _drop_twins(
    done: list[FaceDone], staging: Path, folders: Sequence[str]
) -> tuple[list[int], list[BadPhoto]]:
    """Leave out images that are filed under two persons; return the rows kept."""
    groups = equal_across_persons([item.digest for item in done], [item.photo.person for item in done])
    bad: dict[int, BadPhoto] = {}
    for group in groups:
        for position in group:
            other = next(item for item in group if done[item].photo.person != done[position].photo.person)
            message = f"The same image is filed under another person: {escape_name(done[other].photo.file)}."
            bad[position] = BadPhoto(done[position].photo.file, "same-picture-two-persons", message)
            for folder in folders:
                (staging / folder / done[position].photo.name).unlink(missing_ok=True)
    return [row for row in range(len(done)) if row not in bad], list(bad.values())
