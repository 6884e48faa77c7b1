"""`dsrface cache ls|verify|gc`: list packed caches, check their bytes, remove leftovers of killed runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dsrface.commands.shared.result import CommandResult
from dsrface.config.cache import CacheConfig
from dsrface.data.cache.damage import check_files
from dsrface.data.cache.manifest import read_manifest
from dsrface.data.cache.writer import garbage
from dsrface.data.outputs import png_tree
from dsrface.data.outputs.find import check_caches, find_caches
from dsrface.data.stored import LOCK, MANIFEST, PLAN, is_finished
from dsrface.errors import EXIT_ANSWER_IS_NO, RunError
from dsrface.events import Emit, Progress
from dsrface.runtime.command_line import quoted
from dsrface.runtime.locks import exclusive
from dsrface.runtime.text import count_text, size_text


@dataclass(frozen=True)
class CacheEntry:
    """One folder that `dsrface precompute` wrote.

    Args:
        folder: Where.
        kind: outputs, hr or png; `?` when the folder does not tell.
        state: complete, unfinished, or the error's id.
        num_images: Images in it.
        num_variants: Variants of each.
        num_bytes: On disk, before gc.
        made_by: First characters of the DSR weights' hash; empty for HR.
        problems: What verify found, or the error.
        deleted: Files that gc deleted, or would delete.
        num_bytes_freed: Their bytes.
    """

    folder: str
    kind: str
    state: str
    num_images: int = 0
    num_variants: int = 0
    num_bytes: int = 0
    made_by: str = ""
    problems: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    num_bytes_freed: int = 0


@dataclass(frozen=True)
class CacheResult(CommandResult):
    """What was found in every cache, or deleted there.

    Args:
        caches: Each cache.
        exit_code: 1 when verify found damage.
    """

    caches: tuple[CacheEntry, ...]
    exit_code: int = 0


def run(config: CacheConfig, *, emit: Emit) -> CacheResult:
    """Do what `action` says with every cache below `path`.

    Args:
        config: Complete configuration.
        emit: Takes the events.

    Raises:
        RunError: there is no cache here.
    """
    check_caches(config.path)
    folders = list(find_caches(config.path))
    if config.action == "ls":
        entries = [_look(folder) for folder in folders]
        total = sum(entry.num_bytes for entry in entries)
        summary = f"{count_text(len(entries), 'cache')}, {size_text(total)}."
        return _result(config, summary, entries, [_line(entry) for entry in entries])
    if config.action == "verify":
        entries = [_verify(folder, config, emit) for folder in folders]
        damaged = [entry for entry in entries if entry.problems]
        summary = f"Damage in {len(damaged)} of {count_text(len(entries), 'cache')}."
        if not damaged:
            share = "every byte" if config.sample >= 1 else f"a sample of {config.sample:.1%}"
            summary = f"No damage in {count_text(len(entries), 'cache')} ({share} read)."
        lines = [f"{entry.folder}: {problem}" for entry in damaged for problem in entry.problems]
        return _result(config, summary, entries, lines, EXIT_ANSWER_IS_NO if damaged else 0)
    entries = [_collect(folder, is_dry=config.dry_run) for folder in folders]
    count = sum(len(entry.deleted) for entry in entries)
    freed = sum(entry.num_bytes_freed for entry in entries)
    verb = "would be deleted" if config.dry_run else "deleted"
    lines = [f"{entry.folder}: {name}" for entry in entries for name in entry.deleted]
    lines += [f"{entry.folder}: left alone ({entry.state})" for entry in entries if entry.kind == "?"]
    return _result(config, f"{count_text(count, 'file')}, {size_text(freed)} {verb}.", entries, lines)


def _look(folder: Path) -> CacheEntry:
    is_complete = is_finished(folder)
    state = "complete" if is_complete else "unfinished"
    num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    try:
        if png_tree.is_tree_here(folder):
            rows = png_tree.read_images(folder)
            return CacheEntry(str(folder), "png", state, len(rows), 1, num_bytes)
        manifest = read_manifest(folder, name=MANIFEST if is_complete else PLAN)
        if is_complete:
            check_files(folder, manifest)
    except RunError as error:
        problem = f"{Path(error.where).name}: {error.message}"
        return CacheEntry(str(folder), "?", error.id, num_bytes=num_bytes, problems=(problem,))
    made_by = str(manifest.key.get("dsr_sha256", ""))[:12]
    return CacheEntry(
        str(folder), manifest.column, state, manifest.num_images, manifest.num_variants, num_bytes, made_by
    )


def _verify(folder: Path, config: CacheConfig, emit: Emit) -> CacheEntry:
    from dsrface.data.outputs.verify import verify  # loads torch, which listing does not need

    entry = _look(folder)
    if entry.state != "complete":
        return CacheEntry(str(folder), entry.kind, entry.state, problems=entry.problems or ("not finished",))
    found = verify(
        folder,
        sample=config.sample,
        progress=lambda done, total: emit(
            Progress(f"verify {folder.parent.name}/{folder.name}", done, total)
        ),
    )
    state = "damaged" if found.problems else "complete"
    return replace(entry, state=state, num_images=found.num_records, problems=found.problems)


def _collect(folder: Path, *, is_dry: bool) -> CacheEntry:
    entry = _look(folder)
    if png_tree.is_tree_here(folder):
        return entry
    with exclusive(folder / LOCK, what="cache"):
        try:
            names = garbage(folder)
        except RunError as error:  # what such a cache needs is unknown
            return replace(entry, kind="?", state=error.id)
        freed = sum((folder / name).stat().st_size for name in names)
        if not is_dry:
            for name in names:
                (folder / name).unlink(missing_ok=True)
    return replace(entry, deleted=tuple(names), num_bytes_freed=freed)


def _result(
    config: CacheConfig, summary: str, entries: list[CacheEntry], lines: list[str], exit_code: int = 0
) -> CacheResult:
    following = f"dsrface cache verify {quoted(config.path)}" if config.action == "ls" else ""
    if exit_code:
        following = "dsrface precompute, as before: it rebuilds what is damaged, and only that"
        if any(entry.kind == "?" for entry in entries):
            following = "dsrface precompute --force: without its manifest nothing tells what a cache holds"
    return CacheResult("\n".join([summary, *lines]), str(config.path), following, tuple(entries), exit_code)


def _line(entry: CacheEntry) -> str:
    made_by = f", DSR {entry.made_by}" if entry.made_by else ""
    variants = f" x {entry.num_variants}" if entry.num_variants > 1 else ""
    note = f" ({entry.problems[0]})" if entry.problems else ""
    return (
        f"{entry.folder}: {entry.kind}, {entry.state}, {entry.num_images:,} images{variants}, "
        f"{size_text(entry.num_bytes)}{made_by}{note}"
    )
