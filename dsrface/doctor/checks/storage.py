"""Where the data is, and whether items wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.doctor.sizing.measure import ItemCost

_SLOW_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb",
    "lustre",
    "fuse",
    "9p",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
)


def storage_check(
    paths: Sequence[str], cost: ItemCost | None, *, mounts: Path = Path("/proc/mounts")
) -> Finding:
    """Check the file system the data is on and how long items wait for it."""
    kinds = {path: file_system(path, mounts=mounts) for path in paths}
    slow = {path: kind for path, kind in kinds.items() if kind.startswith(_SLOW_FILE_SYSTEMS)}
    blocked, fraction = (cost.blocked_s, cost.blocked_fraction) if cost else (0.0, 0.0)
    data = {
        "file_systems": kinds,
        "blocked_fraction": round(fraction, 3),
        "read_bytes_per_item": round(cost.read_bytes) if cost else 0,
    }
    where = "\n".join(f"{path} ({kind})" for path, kind in (slow or kinds).items())
    is_disk = bool(slow) or (cost is not None and cost.waits_for_disk)
    if fraction > 0.3 and blocked > 2e-4:
        said = f"items wait {blocked * 1e3:.1f} ms, {fraction:.0%} of their time"
        if not is_disk:
            return STORAGE.finding(
                "info",
                f"{said}, but not for a disk: none was read (a lock, a sleep, a network or another process)",
                data=data,
            )
        return STORAGE.finding(
            "warn",
            f"{said}, for {next(iter(slow.values()), 'a disk')}",
            where=where,
            matters="Then more workers than cores are right, and packed data would be better.",
            fix="Copy the data to a local disk, or pack many small files into a few large ones.",
            data=data,
        )
    if slow:
        kind = next(iter(slow.values()))
        return STORAGE.finding(
            "info",
            f"the data is on {kind}; items were quick this time, a cold cache will not be",
            where=where,
            fix="Copy it to a local disk before a long run.",
            data=data,
        )
    if not kinds:
        return STORAGE.finding(
            "pass" if cost else "skip",
            "items do not wait for storage" if cost else "no data set to read",
            data=data,
        )
    return STORAGE.finding("pass", f"local storage ({', '.join(sorted(set(kinds.values())))})", data=data)


def file_system(path: str, *, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that a path is on, or "unknown"."""
    best, kind = "", "unknown"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return kind
    for line in lines:
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ").rstrip("/")
        if (path == point or path.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, words[2]
    return kind


STORAGE = Check(
    id="env.storage",
    order=90,
    worst="warn",
    title="where the data is",
    why="Network and FUSE file systems make items wait; then more workers than cores are right.",
    how=("The file system's type, the blocked share of an item's time, and whether a disk was read for it."),
    fix="Copy to a local disk, or pack into shards.",
    runs={"cost": lambda _, facts: storage_check(facts.data_paths, facts.cost)},
)
