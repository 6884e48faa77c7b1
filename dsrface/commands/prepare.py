"""`dsrface prepare`: photos to a data set with person-disjoint splits.

Everything is built in a hidden folder inside DATA and moved into place at the end, `dataset.json` last; so
DATA is a data set only when it is a whole one, and an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dsrface.config.prepare import PrepareConfig
from dsrface.data import detect
from dsrface.data.align import Points, read_landmarks
from dsrface.data.decode import encode_png, walk_images
from dsrface.data.degrade import Degradation
from dsrface.data.duplicates import equal_across_persons, near_across_persons
from dsrface.data.faces import DRAWN_MARK
from dsrface.data.layout import DATASET_FILE, HIGH_FOLDER, SCHEMA_VERSION
from dsrface.data.photos import (
    BadPhoto,
    FaceDone,
    FaceJob,
    Photo,
    Scan,
    alike_persons,
    count_finished_faces,
    process_photos,
    scan_photos,
)
from dsrface.data.preview import preview_sheet
from dsrface.data.splits import split_persons
from dsrface.engine.events import Event, Note, Progress
from dsrface.errors import DataError, ImageError, RunError, UsageError
from dsrface.runtime.cpu import effective_cores
from dsrface.runtime.files import (
    disk_error,
    read_json,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
    write_text,
)
from dsrface.runtime.locks import exclusive
from dsrface.types import HIGH_SIZE_PX, SPLITS

BAD_IMAGES_FILE = "bad_images.csv"
PREVIEW_FILE = "preview.png"
_STAGING = ".prepare-"
_LOCK = ".prepare.lock"
_PREVIEW_ROWS = 8
_MAX_LISTED = 100
_INLINE_BELOW = 64  # starting processes costs more than so few photos

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare` made.

    Args:
        summary: The result in a line or two.
        location: The data set.
        next_command: What to run next.
        status: `made`, `up to date` or `repaired`.
        align: Where the landmarks came from, and why.
        counts: Persons and images of each split.
        bad_images: Photos left out, by reason.
        warnings: What somebody should look at.
    """

    exit_code: ClassVar[int] = 0

    summary: str
    location: str
    next_command: str
    status: str
    align: str
    counts: dict[str, dict[str, int]]
    bad_images: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `--json`."""
        return {**asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class _Alignment:
    kind: str
    reason: str
    landmarks: dict[str, Points] = field(default_factory=dict)
    sha256: str = ""


def run(config: PrepareConfig, *, emit: Emit) -> PrepareResult:
    """Make a data set, or verify and repair the one that the same photos and settings made before.

    Raises:
        UsageError: the data set would lie inside the photos.
        DataError: no usable photo, faces that cannot be aligned, or a bad photo with `on_bad_image="fail"`.
        RunError: DATA holds something else; the difference is named.
    """
    _check_places(config.source, config.data)
    scan = scan_photos(config.source)
    emit(Note(scan.rule))
    alignment = _choose_alignment(config, scan.photos)
    emit(Note(f"align: {alignment.reason}"))
    settings = _settings(config, alignment)
    files = sorted([photo.file for photo in scan.photos] + [item.file for item in scan.strays])
    source = {
        "name": config.source.resolve().name,
        "photos": len(files),
        "sha256": _digest(config.source, files, emit, "reading photos"),
        "kind": "drawn" if (config.source / DRAWN_MARK).is_file() else "photos",
    }
    with exclusive(config.data / _LOCK, what="data set"):
        info = _existing(config.data, settings, source)
        if info and info["content_sha256"] == _content_sha256(config.data, info, emit):
            return _result(config, info, "up to date", alignment)
        fingerprint = sha256_json({"settings": settings, "source": source["sha256"]})
        staging = _staging(config.data, fingerprint)
        built = _build(config, staging, scan, alignment, emit)
        new_info = {"schema_version": SCHEMA_VERSION, "settings": settings, "source": source, **built}
        changed = _move_into_place(staging / "tree", config.data)
        # The hash is over what lies in DATA now, so that a foreign picture cannot slip in unseen.
        new_info["content_sha256"] = _content_sha256(config.data, new_info, emit)
        write_json(config.data / DATASET_FILE, new_info)
        shutil.rmtree(staging)
        if info:
            emit(Note(f"{changed} damaged or missing files were made again", is_warning=True))
        return _result(config, new_info, "repaired" if info else "made", alignment)


def escape_name(name: str) -> str:
    """Return a file name on one line: what cannot be printed becomes an escape as Python writes it."""
    text = name.replace("\\", "\\\\")
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "replace").decode() for char in text
    )
    return text.encode("utf-8", "backslashreplace").decode()


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


def _choose_alignment(config: PrepareConfig, photos: Sequence[Photo]) -> _Alignment:
    if config.align not in {"auto", "none"}:
        path = Path(config.align)
        return _Alignment("landmarks", f"landmarks of {path.name}", read_landmarks(path), sha256_file(path))
    if config.align == "none":
        return _Alignment("none", "none: the faces are taken as they are, 112x112")
    found = config.source / "landmarks.csv"
    if found.is_file():
        return _Alignment(
            "landmarks", "auto: landmarks.csv is in the source", read_landmarks(found), sha256_file(found)
        )
    finished, readable = count_finished_faces(config.source, photos)
    if 2 * finished >= readable:
        return _Alignment("none", f"auto: {finished} of {readable} readable photos are 112x112 already")
    if detect.is_available():
        return _Alignment(
            "detect", f"auto: only {finished} of {readable} photos are 112x112, and a detector is here"
        )
    raise DataError(
        f"The photos must be aligned: only {finished} of {readable} are 112x112, and there are no landmarks.",
        id="cannot-align",
        where=config.source,
        hint="Three ways out: (1) --align FILE.csv with five points a photo "
        "(file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry); (2) python -m pip install 'dsrface[detect]', which finds "
        "the points; (3) align the faces to 112x112 yourself.",
    )


def _settings(config: PrepareConfig, alignment: _Alignment) -> dict[str, Any]:
    return {
        "vlr_sizes": list(config.vlr_sizes),
        "degradation": config.degradation,
        "seed": config.seed,
        "split": list(config.split),
        "align": alignment.kind,
        "landmarks_sha256": alignment.sha256,
    }


def _existing(data: Path, settings: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `dataset.json` of an equal data set, or nothing when DATA is free."""
    if (data / DATASET_FILE).exists():
        info = read_json(data / DATASET_FILE)
        differences = [
            f"{key}: there {info.get('settings', {}).get(key)}, asked for {value}"
            for key, value in settings.items()
            if info.get("settings", {}).get(key) != value
        ]
        there = info.get("source", {})
        if there.get("sha256") != source["sha256"]:
            same = there.get("photos") == source["photos"]
            differences.append(
                "the photos' names or contents"
                if same
                else f"photos: {there.get('photos')}, now {source['photos']}"
            )
        if info.get("schema_version") != SCHEMA_VERSION:
            differences.append(f"schema_version: there {info.get('schema_version')}, here {SCHEMA_VERSION}")
        if differences:
            raise RunError(
                f"DATA holds a different data set: {'; '.join(differences)}.",
                id="data-set-exists",
                where=data,
                hint="Choose another folder, or delete this one first.",
            )
        return info
    entries = [name for name in os.listdir(data) if not name.startswith(_LOCK)]
    was_interrupted = any(name.startswith(_STAGING) for name in entries)
    own = (*SPLITS, BAD_IMAGES_FILE, PREVIEW_FILE) if was_interrupted else ()
    foreign = [name for name in entries if name not in own and not name.startswith(_STAGING)]
    if foreign:
        raise RunError(
            f"DATA is not empty and holds no {DATASET_FILE}: there is {escape_name(min(foreign))!r}.",
            id="folder-not-empty",
            where=data,
            hint="Choose an empty or new folder.",
        )
    for name in SPLITS:  # moved there by the run that was interrupted; they are made again
        shutil.rmtree(data / name, ignore_errors=True)
    return {}


def _staging(data: Path, fingerprint: str) -> Path:
    staging = data / f"{_STAGING}{fingerprint[:12]}"
    for entry in data.glob(f"{_STAGING}*"):
        if entry != staging:
            shutil.rmtree(entry)
    shutil.rmtree(staging / "tree", ignore_errors=True)
    staging.mkdir(exist_ok=True)
    return staging


def _build(
    config: PrepareConfig,
    staging: Path,
    scan: Scan,
    alignment: _Alignment,
    emit: Emit,
) -> dict[str, Any]:
    """Fill `staging / "tree"` with the whole data set and return its part of `dataset.json`."""
    degradations = tuple(Degradation(config.degradation, size, config.seed) for size in config.vlr_sizes)
    job = FaceJob(config.source, staging, degradations, alignment.kind)
    done, bad = _process_all(config, job, scan, alignment, emit)
    folders = [HIGH_FOLDER, *(f"vlr_images_{size}x{size}" for size in config.vlr_sizes)]
    done, twins = _drop_twins(done, staging, folders)
    if twins and config.on_bad_image == "fail":
        _fail(config, twins[0])
    bad = sorted([*bad, *twins], key=lambda item: item.file)
    if not done:
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in Counter(i.reason for i in bad).most_common(4)
        )
        raise DataError(
            f"None of {len(bad)} photos can be used: {reasons}.", id="nothing-usable", where=config.source
        )
    near = near_across_persons(np.stack([item.thumb for item in done]), [item.photo.person for item in done])
    fractions = dict(zip(SPLITS, config.split, strict=True))
    splits = split_persons((item.photo.person for item in done), fractions=fractions, seed=config.seed)
    tree = staging / "tree"
    for person, split in splits.items():
        for folder in folders:
            target = tree / split / folder / person
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / folder / person, target)
    _write_preview(tree, done, splits, config.vlr_sizes)
    write_text(tree / BAD_IMAGES_FILE, _bad_csv(bad))
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


def _process_all(
    config: PrepareConfig,
    job: FaceJob,
    scan: Scan,
    alignment: _Alignment,
    emit: Emit,
) -> tuple[list[FaceDone], list[BadPhoto]]:
    done: list[FaceDone] = []
    photos, bad = scan.photos, list(scan.strays)
    if bad and config.on_bad_image == "fail":
        _fail(config, bad[0])
    workers = config.workers
    if workers == "auto":
        workers = 0 if len(photos) < _INLINE_BELOW else effective_cores().effective
    every = max(1, len(photos) // 200)
    results = process_photos(job, photos, alignment.landmarks, num_workers=int(workers))
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
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["file", "reason", "message"])
    rows.writerows([escape_name(item.file), item.reason, escape_name(item.message)] for item in bad)
    return buffer.getvalue()


def _move_into_place(tree: Path, data: Path) -> int:
    """Move the finished tree to DATA and return how many files there were missing or different."""
    try:
        changed = 0
        for name in SPLITS:
            if (tree / name).is_dir() and not (data / name).exists():
                changed += sum(len(files) for _, _, files in os.walk(tree / name))
                os.replace(tree / name, data / name)
        for folder, _, files in os.walk(tree):
            for name in sorted(files):
                fresh = Path(folder) / name
                target = data / fresh.relative_to(tree)
                if target.is_file() and target.read_bytes() == fresh.read_bytes():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(fresh, target)
                changed += 1
    except OSError as error:
        raise disk_error(error, data) from error
    return changed


def _content_sha256(data: Path, info: Mapping[str, Any], emit: Emit) -> str:
    """Return the hash over all pictures of a data set.

    Raises:
        RunError: there are more pictures than were made.
    """
    folders = [HIGH_FOLDER, *(f"vlr_images_{size}x{size}" for size in info["sizes"]["vlr_px"])]
    files: list[str] = []
    for split, counts in info["counts"].items():
        for folder in folders:
            root = data / split / folder
            names = list(walk_images(root)) if root.is_dir() else []
            if len(names) > counts["images"]:
                raise RunError(
                    f"{split}/{folder} holds {len(names)} pictures; {counts['images']} were made.",
                    id="data-set-changed",
                    where=root,
                    hint="Remove the pictures that do not belong there, or prepare into another folder.",
                )
            files += [f"{split}/{folder}/{name}" for name in names]
    return _digest(data, files, emit, "verifying")


def _digest(root: Path, files: Sequence[str], emit: Emit, label: str) -> str:
    """Return one hash over names and contents; threads help, because hashing leaves Python's lock."""
    total = hashlib.sha256()
    every = max(1, len(files) // 100)
    with ThreadPoolExecutor(4) as pool:
        for number, (name, digest) in enumerate(
            zip(files, pool.map(_file_digest, (root / name for name in files)), strict=True), start=1
        ):
            total.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
            if number % every == 0:
                emit(Progress(label, number, len(files)))
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        return sha256_file(path) if path.is_file() else "none"
    except OSError:
        return "unreadable"


def _result(
    config: PrepareConfig, info: Mapping[str, Any], status: str, alignment: _Alignment
) -> PrepareResult:
    counts = info["counts"]
    images = sum(item["images"] for item in counts.values())
    persons = sum(item["persons"] for item in counts.values())
    num_bad = sum(info["bad_images"].values())
    shares = ", ".join(
        f"{name} {item['persons']} persons / {item['images']} images" for name, item in counts.items()
    )
    left_out = f"; {num_bad} photos left out, see {BAD_IMAGES_FILE}" if num_bad else ""
    return PrepareResult(
        summary=f"{images} faces of {persons} persons, {status}: {shares}{left_out}",
        location=str(config.data),
        next_command=f"dsrface train-dsr {config.data} --vlr-size {config.vlr_sizes[0]}",
        status=status,
        align=alignment.reason,
        counts=counts,
        bad_images=info["bad_images"],
        warnings=tuple(_warnings(info)),
    )


def _warnings(info: Mapping[str, Any]) -> Iterable[str]:
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
            f"{near['num_pairs']} pairs of nearly equal pictures under different persons "
            f"({len(across)} of those listed lie across splits), e.g. {names}: "
            f"see near_duplicates in {DATASET_FILE}"
        )
    if info["counts"].get("test", {}).get("persons", 2) < 2:
        yield "the test split has a single person: nobody to tell apart"
