"""What every folder of stored outputs has, whatever its format, and the decision what to do with it.

manifest.json is written last: its presence means "complete"; plan.json stands in for it until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dsrface.errors import RunError
from dsrface.runtime.command_line import quoted, typed_with
from dsrface.runtime.files import read_json, sha256_json
from dsrface.runtime.nesting import flatten
from dsrface.types import SPLITS

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"
LOCK = ".lock"
_NEVER_REMOVED = ("not-a-cache", "output-other-format")  # somebody else's, whatever --force says
H = TypeVar("H")
P_co = TypeVar("P_co", covariant=True)


class Stored(Protocol[H, P_co]):
    """A folder in one format, and what it shall hold. `H` is what it holds now, `P_co` the format's plan."""

    @property
    def folder(self) -> Path:
        """The folder; need not exist."""

    def look(self) -> H | None:
        """Return what the folder holds, or None when it holds nothing yet.

        Raises:
            RunError: damaged, of another format, or not of dsrface.
        """

    def stale_reasons(self, held: H) -> list[str]:
        """Return what differs from what is wanted, as `field: old -> new`; nothing when all can be kept."""

    def remove(self) -> None:
        """Delete what dsrface wrote here."""

    def begin(self, reason: str) -> P_co:
        """Return the plan that makes everything."""

    def go_on(self, held: H) -> P_co:
        """Return the plan that makes what is missing."""


def decide(stored: Stored[H, P_co], *, force: bool) -> P_co:
    """Compare what a folder holds with what is wanted; the caller holds the folder's lock.

    Args:
        stored: The folder.
        force: Throw away what is stale, or damaged beyond repair.

    Raises:
        RunError: stale, with every field that differs; damaged; not of dsrface.
    """
    try:
        held = stored.look()
        reasons = stored.stale_reasons(held) if held is not None else []
        if reasons:
            raise stale(reasons, stored.folder)
        if held is not None:
            return stored.go_on(held)
    except RunError as error:
        if not force or error.id in _NEVER_REMOVED:
            raise
        stored.remove()
        return stored.begin(f"rebuilt: {error.message}")
    return stored.begin("nothing here yet")


def changed_inputs(changed: Sequence[str]) -> list[str]:
    """Return the reason to be stale that changed input images are."""
    return [f"inputs: {len(changed)} images have changed, first {changed[0]!r}"] if changed else []


def formats(folder: Path) -> set[str]:
    """Return the formats that the folder's manifest and plan name; another program's may name any, or none.

    Raises:
        RunError: one is damaged.
    """
    paths = (folder / name for name in (MANIFEST, PLAN))
    return {str(read_json(path).get("format")) for path in paths if path.exists()}


def is_finished(folder: Path) -> bool:
    """Return whether a cache or a PNG tree is complete, as far as its manifest says."""
    return (folder / MANIFEST).exists() and not (folder / PLAN).exists()


def check_schema(raw: Mapping[str, Any], where: Path, *, what: str) -> None:
    """Refuse a manifest of another schema version.

    Raises:
        RunError: both versions are named.
    """
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RunError(
            f"The {what} has schema_version {version!r}; this dsrface reads {SCHEMA_VERSION}.",
            id="cache-schema",
            where=where,
            hint="Use the dsrface it was made with, or rebuild it with `dsrface precompute --force`.",
        )


def check_own_hash(raw: Mapping[str, Any], where: Path, *, repairable: bool = True) -> None:
    """Refuse a manifest whose content does not match the hash that it carries.

    Raises:
        RunError: see `damaged`.
    """
    body = {key: value for key, value in raw.items() if key != "manifest_sha256"}
    if sha256_json(body) != raw.get("manifest_sha256"):
        raise damaged(
            "The manifest does not match its own hash: manifest_sha256 differs.", where, repairable=repairable
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one `field: old -> new` for every field that differs, nested ones by dotted name."""
    left, right = flatten(old), flatten(new)
    return [
        f"{name}: {short(left.get(name))} -> {short(right.get(name))}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def stale(reasons: list[str], where: Path, *, split: Path | None = None) -> RunError:
    """Return the refusal of outputs that other weights, settings or images have made.

    Args:
        reasons: What differs.
        where: The outputs.
        split: Folder of the split that they were to be used for.
    """
    return RunError(
        "The outputs here are stale: " + "; ".join(reasons) + ".",
        id="stale",
        where=where,
        hint=(split and of_another_set(where, split))
        or f"To make them again: {_again(where)}\nOr go back to the weights, settings and images that they "
        "were made with.",
    )


def of_another_set(outputs: Path, split: Path) -> str:
    """Return what to do with outputs that lie in another data set than a split; empty where they do not."""
    own, other = (_data_set_of(folder / "images") for folder in (split, outputs.parent))
    if own is None or other is None or own.resolve() == other.resolve():
        return ""
    return f"They are of {other}. To make those of {own}: dsrface precompute {quoted(own)} --weights RUN"


def _data_set_of(folder: Path) -> Path | None:
    """Return the data set that a folder of one of its splits is in; None where it is in none."""
    return next((parent.parent for parent in folder.parents if parent.name in SPLITS), None)


def _again(outputs: Path) -> str:
    """Return the command that makes outputs again, of the data set that they lie in where they do."""
    typed, data = typed_with("--force", command="precompute"), _data_set_of(outputs)
    if typed != "dsrface precompute --force" or data is None:
        return typed
    return f"dsrface precompute {quoted(data)} --weights RUN --force"


def damaged(message: str, where: Path, *, repairable: bool = True) -> RunError:
    """Return the refusal of a cache whose bytes are not those that were written.

    Args:
        message: What is wrong.
        where: In which file.
        repairable: The manifest and the table are there to tell what the rest must be.
    """
    again = "Run the same `dsrface precompute` again: it rebuilds the damaged shards, and only those."
    rebuild = f"Nothing tells any more what the shards hold; to make them again: {_again(where)}"
    return RunError(
        message,
        id="cache-damaged",
        where=where,
        hint=f"{again if repairable else rebuild}\n`dsrface cache verify` lists all damage.",
    )


def short(value: object) -> str:
    """Return a value for a message; a digest by its first characters."""
    text = "none" if value is None else str(value)
    return f"{text[:12]}.." if len(text) == 64 else text
