"""What is in DATA: a data set to verify, an interrupted run to go on with, or something foreign."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsrface.data.decode import walk_images
from dsrface.data.folders import DATASET_FILE, HIGH_FOLDER, NATIVE_FILE, SCHEMA_VERSION, low_folder
from dsrface.errors import RunError
from dsrface.events import Emit, Progress
from dsrface.runtime.ahead import ahead
from dsrface.runtime.files import TMP_SUFFIX, disk_error, read_json, remove_half_written, replace, sha256_file
from dsrface.types import SPLITS

BAD_IMAGES_FILE = "bad_images.csv"
PREVIEW_FILE = "preview.png"
SEVERAL_FACES_FILE = "several_faces.csv"
LOCK_FILE = ".prepare.lock"
LISTS_KEY = "lists_sha256"
_FILES = (BAD_IMAGES_FILE, PREVIEW_FILE, SEVERAL_FACES_FILE, NATIVE_FILE)
_STAGING = ".prepare-"
# What data sets were made with before these could be chosen.
_EARLIER_SETTINGS = {"faces": "largest", "persons": "auto", "split_from": "auto", "native": False}


# Settings that are hashes, in words, as their values say nothing.
_OF_FILES = {
    "landmarks_sha256": "the landmarks",
    LISTS_KEY: "what the lists say of persons or splits",
}
# Settings that a command line can repeat.
_FLAGS = {"split": "--split", "degradation": "--degradation", "faces": "--faces", "seed": "--seed"}


def find_existing(data: Path, settings: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `dataset.json` of an equal data set or one with fewer VLR sizes; else nothing.

    Raises:
        RunError: DATA holds something else; the difference is named.
    """
    if (data / DATASET_FILE).exists():
        info = read_json(data / DATASET_FILE)
        before = _EARLIER_SETTINGS | info.get("settings", {})
        keys = [key for key in settings if _differs(key, before.get(key), settings[key])]
        differences = [
            _OF_FILES.get(key, f"{key}: there {before.get(key)}, asked for {settings[key]}") for key in keys
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
                hint=_more_sizes(keys, before, settings["vlr_sizes"]) * (len(keys) == len(differences))
                + "Choose another folder, or delete this one first.",
            )
        return info
    remove_half_written(data, DATASET_FILE, *_FILES)
    entries = [name for name in os.listdir(data) if not name.startswith(LOCK_FILE)]
    was_interrupted = any(name.startswith(_STAGING) for name in entries)
    own = (*SPLITS, *_FILES) if was_interrupted else ()
    foreign = [name for name in entries if name not in own and not name.startswith(_STAGING)]
    if foreign:
        raise RunError(
            f"DATA is not empty and holds no {DATASET_FILE}: there is {min(foreign)!r}.",
            id="folder-not-empty",
            where=data,
            hint="Choose an empty or new folder.",
        )
    for name in SPLITS:  # moved there by the run that was interrupted; they are made again
        shutil.rmtree(data / name, ignore_errors=True)
    return {}


def _differs(key: str, there: Any, asked: Any) -> bool:
    """Return whether a setting asks for other files than there are; sizes may be added."""
    if key == "vlr_sizes" and isinstance(there, list):
        return not set(there) <= set(asked)
    if key == LISTS_KEY and there is None:
        return False  # earlier versions did not write it
    return bool(there != asked)


def _more_sizes(keys: Sequence[str], there: Mapping[str, Any], sizes: Sequence[int]) -> str:
    """Return the options that add sizes to what is there, where a command line differs in such alone."""
    new = sorted(set(sizes) - set(there["vlr_sizes"]))
    if "vlr_sizes" not in keys or not new or not set(keys) <= {"vlr_sizes", *_FLAGS}:
        return ""
    options = {"--vlr-sizes": sorted({*there["vlr_sizes"], *new})} | {
        _FLAGS[key]: there[key] for key in keys if key in _FLAGS
    }
    words = [
        f"{flag} {','.join(map(str, each)) if isinstance(each, list) else each}"
        for flag, each in options.items()
    ]
    return f"To add {', '.join(map(str, new))} px to it: {' '.join(words)}\n"


def remove_staging(data: Path, *, keep: Path | None = None) -> None:
    """Remove what runs that were killed have built in, all or all but one."""
    for entry in data.glob(f"{_STAGING}*"):
        if entry.is_dir() and entry != keep:
            shutil.rmtree(entry)


def staging_folder(data: Path, fingerprint: str) -> Path:
    """Return the folder to build in; what other settings or photos left there is removed.

    So are half-written files of processes that were killed: the folders around them go to DATA as they are.
    """
    staging = data / f"{_STAGING}{fingerprint[:12]}"
    remove_staging(data, keep=staging)
    shutil.rmtree(staging / "tree", ignore_errors=True)
    for leftover in staging.rglob(f"*{TMP_SUFFIX}"):
        leftover.unlink()
    staging.mkdir(exist_ok=True)
    return staging


def move_into_place(tree: Path, data: Path) -> int:
    """Move the finished tree to DATA and return how many files there were missing or different."""
    try:
        changed = 0
        for name in SPLITS:
            if (tree / name).is_dir() and not (data / name).exists():
                changed += sum(len(files) for _, _, files in os.walk(tree / name))
                replace(tree / name, data / name)
        for fresh in _files_below(tree):
            target = data / fresh.relative_to(tree)
            if not target.is_file() or target.read_bytes() != fresh.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                replace(fresh, target)
                changed += 1
    except OSError as error:
        raise disk_error(error, data) from error
    return changed


def _files_below(tree: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(tree):
        yield from (Path(folder) / name for name in sorted(files))


def content_sha256(data: Path, info: Mapping[str, Any], emit: Emit) -> str:
    """Return the hash over all images of a data set.

    Raises:
        RunError: there are more images than were made.
    """
    folders = [HIGH_FOLDER, *(low_folder(size) for size in info["sizes"]["vlr_px"])]
    files: list[str] = []
    for split, counts in info["counts"].items():
        for folder in folders:
            root = data / split / folder
            names = list(walk_images(root)) if root.is_dir() else []
            if len(names) > counts["images"]:
                raise RunError(
                    f"{split}/{folder} holds {len(names)} images; {counts['images']} were made.",
                    id="data-set-changed",
                    where=root,
                    hint="Remove the images that do not belong there, or prepare into another folder.",
                )
            files += [f"{split}/{folder}/{name}" for name in names]
    return digest(data, files, emit, "verifying")


def digest(root: Path, files: Sequence[str], emit: Emit, label: str) -> str:
    """Return one hash over names and contents; threads help, because hashing leaves Python's lock.

    A root that is a file, such as a `.rec`, is hashed as it is.
    """
    if root.is_file():
        return sha256_file(root)
    total = hashlib.sha256()
    every = max(1, len(files) // 100)
    found = ahead(_file_digest, (root / name for name in files), num_threads=4, depth=64)
    for number, (name, digest) in enumerate(zip(files, found, strict=True), start=1):
        total.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
        if number % every == 0 or number == len(files):
            emit(Progress(label, number, len(files)))
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        return sha256_file(path) if path.is_file() else "none"
    except OSError:
        return "unreadable"
