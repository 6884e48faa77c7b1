"""The work of `prepare`: photos to faces, persons to splits, all in a staging folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsrface.commands.prepare.alignment import Alignment
from dsrface.commands.prepare.folder import BAD_IMAGES_FILE, PREVIEW_FILE
from dsrface.commands.workers import announced
from dsrface.config.prepare import PrepareConfig
from dsrface.data.decode import encode_png
from dsrface.data.degrade import Degradation
from dsrface.data.duplicates import equal_across_persons, near_across_persons
from dsrface.data.folders import HIGH_FOLDER, low_folder
from dsrface.data.photo_scan import BadPhoto, Photo, Scan, alike_persons
from dsrface.data.photos import CHUNK_PHOTOS, FaceDone, FaceJob, PhotoWork, process_photos
from dsrface.data.preview import preview_sheet
from dsrface.data.splits import split_persons
from dsrface.doctor.sizing.loader_model import WorkerChoice
from dsrface.doctor.sizing.recommend import auto_workers
from dsrface.errors import DataError, ImageError
from dsrface.events import Emit, Progress
from dsrface.runtime.files import replace, write_bytes, write_text
from dsrface.runtime.text import csv_text, printable
from dsrface.types import HIGH_SIZE_PX, SPLITS

_PREVIEW_ROWS = 8
_MAX_LISTED = 100
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
    job = FaceJob(config.source, staging, degradations, alignment.kind)
    done, bad = _process_all(config, job, scan, alignment, emit)
    folders = [HIGH_FOLDER, *(low_folder(size) for size in config.vlr_sizes)]
    done, twins = _drop_twins(done, staging, folders)
    if twins and config.on_bad_image == "fail":
        _fail(config, twins[0])
    bad = sorted([*bad, *twins], key=lambda item: item.file)
    write_text(config.data / BAD_IMAGES_FILE, _bad_csv(bad))  # also for a run that fails now
    if not done:
        raise DataError(
            f"None of {len(bad)} photos can be used: {listed(Counter(item.reason for item in bad))}.",
            id="nothing-usable",
            where=config.data / BAD_IMAGES_FILE,
            hint="That file says for each photo why."
            + (" Raw photos need --align auto or landmarks." if alignment.kind == "none" else ""),
        )
    check_persons(config, {item.photo.person for item in done}, bad)
    near = near_across_persons(np.stack([item.thumb for item in done]), [item.photo.person for item in done])
    fractions = dict(zip(SPLITS, config.split, strict=True))
    splits = split_persons((item.photo.person for item in done), fractions=fractions, seed=config.seed)
    tree = staging / "tree"
    for person, split in splits.items():
        for folder in folders:
            target = tree / split / folder / person
            target.parent.mkdir(parents=True, exist_ok=True)
            replace(staging / folder / person, target)
    _write_preview(tree, done, splits, config.vlr_sizes)
    return {
        "sizes": {"high_px": HIGH_SIZE_PX, "vlr_px": list(config.vlr_sizes)},
        "degradations": {str(item.size_px): item.to_dict() for item in degradations},
        "split_rule": "whole persons, by a hash of seed and name against the shares",
        "counts": _counts(done, splits),
        "bad_images": dict(sorted(Counter(item.reason for item in bad).items())),
        "persons_alike": alike_persons([item.photo for item in done])[:_MAX_LISTED],
        "persons_in_several_folders": scan.merged[:_MAX_LISTED],
        "near_duplicates": {
            "num_pairs": len(near),
            "listed": [
                {
                    "first": done[a].photo.name,
                    "second": done[b].photo.name,
                    "correlation": round(value, 4),
                    "splits": [splits[done[a].photo.person], splits[done[b].photo.person]],
                }
                for a, b, value in near[:_MAX_LISTED]
            ],
        },
    }


def check_persons(config: PrepareConfig, persons: Collection[str], bad: Sequence[BadPhoto]) -> None:
    """Make sure that every split can have a person; early, and again when bad photos are out.

    Raises:
        DataError: too few persons, with what was left out.
    """
    wanted = [name for name, share in zip(SPLITS, config.split, strict=True) if share > 0]
    if len(persons) >= len(wanted):
        return
    reasons = listed(Counter(item.reason for item in bad))
    left_out = f"; left out: {reasons}" if bad else ""
    raise DataError(
        f"{len(wanted)} splits ({', '.join(wanted)}) need a person each; there is only "
        f"{' and '.join(sorted(persons))}{left_out}.",
        id="too-few-persons",
        where=config.source,
        hint="Add persons, or ask for fewer splits, e.g. --split 1,0,0.",
    )


def listed(reasons: Mapping[str, int]) -> str:
    """Return the most common reasons with their numbers."""
    return ", ".join(f"{reason} {number}" for reason, number in Counter(reasons).most_common(4))


def escape_name(name: str) -> str:
    """Return a file name on one line: what a terminal would act on becomes an escape as Python writes it."""
    return printable(name.replace("\\", "\\\\")).replace("\n", "\\n").replace("\t", "\\t")


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
    for number, item in enumerate(results, start=1):
        if isinstance(item, FaceDone):
            done.append(item)
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
) -> tuple[list[FaceDone], list[BadPhoto]]:
    """Leave out pictures that lie under two persons: nobody can say whose they are."""
    groups = equal_across_persons([item.high_sha256 for item in done], [item.photo.person for item in done])
    bad: dict[int, BadPhoto] = {}
    for group in groups:
        for position in group:
            other = next(item for item in group if done[item].photo.person != done[position].photo.person)
            message = f"The same picture lies under another person: {escape_name(done[other].photo.file)}."
            bad[position] = BadPhoto(done[position].photo.file, "same-picture-two-persons", message)
            for folder in folders:
                (staging / folder / done[position].photo.name).unlink(missing_ok=True)
    return [item for position, item in enumerate(done) if position not in bad], list(bad.values())


def _counts(done: Iterable[FaceDone], splits: Mapping[str, str]) -> dict[str, dict[str, int]]:
    images = Counter(splits[item.photo.person] for item in done)
    persons = Counter(splits.values())
    return {name: {"persons": persons[name], "images": images[name]} for name in SPLITS if persons[name]}


def _write_preview(
    tree: Path, done: Sequence[FaceDone], splits: Mapping[str, str], sizes: Sequence[int]
) -> None:
    first: dict[str, str] = {}
    for item in done:
        if splits[item.photo.person] == "train":
            first.setdefault(item.photo.person, item.photo.name)
    names = sorted(first.values())[:_PREVIEW_ROWS]
    write_bytes(tree / PREVIEW_FILE, encode_png(preview_sheet(tree / "train", names, sizes), level=6))


def _bad_csv(bad: Iterable[BadPhoto]) -> str:
    """Return one line a photo; names are escaped, so a line feed in one cannot start a line."""
    rows = ([escape_name(item.file), item.reason, escape_name(item.message)] for item in bad)
    return csv_text([["file", "reason", "message"], *rows])
