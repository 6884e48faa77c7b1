"""DSR outputs as PNG files under the names of their inputs, with a manifest that says where they came from.

manifest.json   written last: format, key, and the hash of images.jsonl; plan.json stands in for it until then
images.jsonl    one object an image: name, input (hash of the input file), and in the end output and bytes
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrface.data.decode import write_png
from dsrface.data.stored import (
    MANIFEST,
    PLAN,
    SCHEMA_VERSION,
    changed_inputs,
    check_own_hash,
    check_schema,
    differences,
    formats,
    is_finished,
)
from dsrface.errors import RunError
from dsrface.runtime.files import TMP_SUFFIX, atomic_writer, read_json, sha256_file, sha256_json, write_json

FORMAT = "dsrface-png"
IMAGES = "images.jsonl"
_LEFTOVER = re.compile(r".+\.\d+\.tmp")  # a name, a process number; files called notes.tmp are the user's
_BEGUN = re.compile(r"images\.jsonl(\.\d+\.tmp)?|plan\.json\.\d+\.tmp")  # there before the plan
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class PngPlan:
    """What is to be written.

    Args:
        folder: Root of the tree.
        names: All images.
        todo: Positions of those that are not there yet.
        header: Content of the manifest to be.
        inputs: Hash of each input file, in hex.
        action: As of a cache's `Decision`.
        reason: One line, human-readable.
    """

    folder: Path
    names: Sequence[str]
    todo: list[int]
    header: Mapping[str, Any]
    inputs: Sequence[str]
    action: str
    reason: str


def is_tree_here(folder: Path) -> bool:
    """Return whether a folder holds a PNG tree of dsrface, finished or not, or with a damaged manifest."""
    try:
        return FORMAT in formats(folder)
    except RunError:
        return (folder / IMAGES).exists()


@dataclass(frozen=True)
class PngTree:
    """The root of a tree and what it shall hold; see `data.stored.Stored`.

    Args:
        folder: Root of the tree; need not exist.
        names: Relative names of all images, of inputs and outputs alike.
        inputs: uint8 [N, 16], hash of each input file.
        input_stats: Per split, a hash over size and time of its input files.
        key: Everything that changes pixels.
        info: Facts to read; not part of the key.
    """

    folder: Path
    names: Sequence[str]
    inputs: NDArray[np.uint8]
    input_stats: Mapping[str, str]
    key: Mapping[str, Any]
    info: Mapping[str, Any]

    def look(self) -> dict[str, Any] | None:
        """Read the plan of an interrupted run, else the manifest."""
        header = _header(self.folder)
        foreign = _foreign_entry(self.folder) if header is None else None
        if foreign is not None:
            raise RunError(
                f"The output folder holds files that we did not write, first {foreign!r}.",
                id="output-not-ours",
                where=self.folder,
                hint="Give another folder, or add --force to write over files of the same names.",
            )
        return header

    def stale_reasons(self, held: Mapping[str, Any]) -> list[str]:
        """Compare keys, and the inputs of the images that both have."""
        known = {row["name"]: row["input"] for row in read_images(self.folder)}
        pairs = zip(self.names, self._hashes, strict=True)
        changed = [name for name, digest in pairs if known.get(name, digest) != digest]
        return differences(held["key"], self.key) + changed_inputs(changed)

    def remove(self) -> None:
        """Delete the tree."""
        remove_tree(self.folder)

    def begin(self, reason: str) -> PngPlan:
        """Plan every image."""
        return self._plan(list(range(len(self.names))), self.info, "begin", reason)

    def go_on(self, held: dict[str, Any]) -> PngPlan:
        """Plan the images that are new, missing or damaged."""
        known = {row["name"]: row.get("output") for row in read_images(self.folder)}
        todo = [i for i, name in enumerate(self.names) if not _is_whole(self.folder / name, known.get(name))]
        is_new = any(name not in known for name in self.names)
        finished = is_finished(self.folder)
        if finished and not todo and not is_new:
            return PngPlan(self.folder, self.names, [], held, self._hashes, "none", "complete")
        action = "append" if is_new else ("repair" if finished else "resume")
        return self._plan(todo, held["info"], action, f"{len(todo)} of {len(self.names)} images to do")

    @functools.cached_property
    def _hashes(self) -> list[str]:
        return [bytes(row).hex() for row in self.inputs]

    def _plan(self, todo: list[int], info: Mapping[str, Any], action: str, reason: str) -> PngPlan:
        header = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "num_images": len(self.names),
            "key": dict(self.key),
            "input_stats": dict(self.input_stats),
            "info": dict(info),
        }
        return PngPlan(self.folder, self.names, todo, header, self._hashes, action, reason)


def begin_png(plan: PngPlan) -> None:
    """Put the plan on disk, so that a killed run can go on."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    for path in plan.folder.rglob(f"*{TMP_SUFFIX}"):
        if _LEFTOVER.fullmatch(path.name):  # left by a killed run
            path.unlink(missing_ok=True)
    _write_images(
        plan.folder, ({"name": n, "input": i} for n, i in zip(plan.names, plan.inputs, strict=True))
    )
    write_json(plan.folder / PLAN, plan.header)


def write_pngs(
    folder: Path,
    batches: Iterator[tuple[Sequence[str], Callable[[], NDArray[np.uint8]]]],
    *,
    num_threads: int,
) -> None:
    """Encode and write batches of (names, images) as they come, several images at a time."""
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(num_threads, thread_name_prefix="dsrface-png") as pool:
        for names, get in batches:
            images = get()
            for future in pending:
                future.result()
            pending = [
                pool.submit(write_png, folder / name, image)
                for name, image in zip(names, images, strict=True)
            ]
        for future in pending:
            future.result()


def finish_png(plan: PngPlan) -> None:
    """Hash all files and write the manifest.

    Raises:
        RunError: an image is still missing.
    """
    rows = []
    for name, digest in zip(plan.names, plan.inputs, strict=True):
        path = plan.folder / name
        if not _is_whole(path):
            raise RunError(
                "An output image is missing.",
                id="cache-unfinished",
                where=path,
                hint="Run the same `dsrface precompute` again.",
            )
        rows.append(
            {"name": name, "input": digest, "output": sha256_file(path), "bytes": path.stat().st_size}
        )
    _write_images(plan.folder, iter(rows))
    header = {**plan.header, "images_sha256": sha256_file(plan.folder / IMAGES)}
    write_json(plan.folder / MANIFEST, {**header, "manifest_sha256": sha256_json(header)})
    (plan.folder / PLAN).unlink(missing_ok=True)


def read_tree_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished tree.

    Raises:
        RunError: unfinished, damaged, or of a newer schema.
    """
    path = folder / MANIFEST
    if not is_finished(folder):
        raise RunError(
            "The PNG tree is not finished.",
            id="cache-unfinished",
            where=folder,
            hint="Run the same `dsrface precompute` again: it goes on where it stopped.",
        )
    raw = read_json(path)
    check_schema(raw, path, what="PNG tree")
    check_own_hash(raw, path)
    return raw


def read_images(folder: Path) -> list[dict[str, Any]]:
    """Read `images.jsonl`; a line that is no object, or names no image inside the folder, ends it."""
    rows: list[dict[str, Any]] = []
    with (
        contextlib.suppress(FileNotFoundError, ValueError, RecursionError),
        (folder / IMAGES).open(encoding="utf-8") as handle,
    ):
        for line in handle:
            row = json.loads(line)
            if not isinstance(row, dict) or not _is_own_name(row.get("name")):
                break
            rows.append(row)
    return rows


def remove_tree(folder: Path) -> None:
    """Delete a tree of dsrface: what its list names, and its own files; the manifest first."""
    for name in (MANIFEST, PLAN):
        (folder / name).unlink(missing_ok=True)
    for row in read_images(folder):
        (folder / row["name"]).unlink(missing_ok=True)
    (folder / IMAGES).unlink(missing_ok=True)


def _header(folder: Path) -> dict[str, Any] | None:
    for name in (PLAN, MANIFEST):
        if (folder / name).exists():
            raw = read_json(folder / name)
            if raw.get("format") != FORMAT:
                raise RunError(
                    f"The folder holds something else: format is {raw.get('format')!r}, not {FORMAT!r}.",
                    id="output-other-format",
                    where=folder / name,
                    hint="Delete the folder first, or keep to its format with --format cache.",
                )
            check_schema(raw, folder / name, what="PNG tree")
            return raw
    return None


def _foreign_entry(folder: Path) -> str | None:
    """Return the first foreign file, or None; a killed run may have got no further than its list."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return next((name for name in names if not name.startswith(".") and not _BEGUN.fullmatch(name)), None)


def _is_whole(path: Path, sha256: str | None = None) -> bool:
    """Return whether a PNG is complete: it has its hash, or, when that is not known yet, its end."""
    try:
        if sha256 is not None:
            return sha256_file(path) == sha256
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - len(_PNG_END)))
            return handle.read() == _PNG_END
    except OSError:
        return False


def _write_images(folder: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    with atomic_writer(folder / IMAGES, mode="w") as handle:
        for row in rows:
            handle.write(json.dumps(row) + "\n")


def _is_own_name(name: object) -> bool:
    """Return whether a list names an image inside the tree; another name is somebody else's work."""
    if not isinstance(name, str) or "\0" in name:
        return False
    path = PurePath(name)
    return not path.anchor and ".." not in path.parts and path.suffix == ".png"
