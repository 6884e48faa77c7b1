"""The cores and the memory that this process may really use: affinity, cgroup limits, SLURM, world size.

`os.cpu_count`, the affinity mask and psutil all ignore a cgroup CPU quota, which is how containers are
limited; a job with half a core then starts eight workers. Everything here is read from files, so it costs no
torch import. `root` is another file system root in tests.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dsrface.runtime.text import size_text

_ROOT = Path("/")
_V1_UNLIMITED_BYTES = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


@dataclass(frozen=True)
class Cores:
    """The cores this process may use, and what each source says.

    Args:
        host: Logical cores of the machine.
        affinity: Cores in this process's affinity mask.
        quota: CPU quota of the tightest cgroup in cores, e.g. 0.5; None without a quota.
        slurm: SLURM_CPUS_PER_TASK; None outside SLURM.
        world_size: Processes of one launch that share this machine (LOCAL_WORLD_SIZE).
        effective: What is left for this process, at least 1.
        reason: One line saying which source decided.
    """

    host: int
    affinity: int
    quota: float | None
    slurm: int | None
    world_size: int
    effective: int
    reason: str


@dataclass(frozen=True)
class Memory:
    """The memory this process may still allocate.

    Args:
        available_bytes: Free memory, after the tightest cgroup limit.
        limit_bytes: That cgroup limit; None without one.
        reason: One line saying which source decided.
    """

    available_bytes: int
    limit_bytes: int | None
    reason: str


def effective_cores(
    *, world_size: int | None = None, root: Path = _ROOT, environ: Mapping[str, str] | None = None
) -> Cores:
    """Return the cores that this process may use.

    Args:
        world_size: Processes sharing the machine; read from LOCAL_WORLD_SIZE when None.
        root: File system root to read /proc and /sys from.
        environ: Environment to read; the process's own when None.
    """
    environ = os.environ if environ is None else environ
    host = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else host
    quota = cpu_quota(root=root)
    slurm = _positive_int(environ.get("SLURM_CPUS_PER_TASK"))
    sharing = max(1, world_size or _positive_int(environ.get("LOCAL_WORLD_SIZE")) or 1)
    bounds: list[tuple[float, str]] = [(host, f"{host} cores"), (affinity, f"affinity mask of {affinity}")]
    if quota is not None:
        bounds.append((max(1, math.ceil(quota)), f"cgroup quota of {quota:g} cores"))
    if slurm is not None:
        bounds.append((slurm, f"SLURM_CPUS_PER_TASK={slurm}"))
    bound, reason = min(bounds, key=lambda item: item[0])
    if sharing > 1:
        reason += f", shared by {sharing} processes"
    return Cores(host, affinity, quota, slurm, sharing, max(1, int(bound) // sharing), reason)


def cpu_quota(*, root: Path = _ROOT) -> float | None:
    """Return the tightest CPU quota of this cgroup and its ancestors, in cores; None without one."""
    quotas = []
    for folder in cgroup_folders("cpu", root=root):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) / int(words[1]))
        quota_us = _number(folder / "cpu.cfs_quota_us")
        period_us = _number(folder / "cpu.cfs_period_us")
        if quota_us is not None and period_us and quota_us > 0:
            quotas.append(quota_us / period_us)
    return min(quotas, default=None)


def memory_limit(*, root: Path = _ROOT) -> Memory:
    """Return the memory that is still free for this process, cgroup limits included."""
    available = _mem_available(root)
    limit: int | None = None
    reason = "free memory of the machine"
    for folder in cgroup_folders("memory", root=root):
        found = _number(folder / "memory.max")
        used_file, cache_key = "memory.current", "inactive_file"
        if found is None:
            found = _number(folder / "memory.limit_in_bytes")
            used_file, cache_key = "memory.usage_in_bytes", "total_inactive_file"
        if found is None or found >= _V1_UNLIMITED_BYTES:
            continue
        limit = found if limit is None else min(limit, found)
        reclaimable = _stat_value(folder / "memory.stat", cache_key)
        free = max(0, found - max(0, (_number(folder / used_file) or 0) - reclaimable))
        if free < available:
            available, reason = free, f"cgroup memory limit of {size_text(found)}"
    return Memory(available, limit, reason)


def address_limit_hint() -> str:
    """Return a sentence on this process's limit of address space; empty where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return (
        f"This process may use {size_text(limit)} of addresses (`ulimit -v`); torch alone takes several GiB."
    )


def oom_kills(*, root: Path = _ROOT) -> int:
    """Return how often the kernel killed a process of this cgroup for memory; 0 when it does not say."""
    counts = [0]
    for folder in cgroup_folders("memory", root=root):
        counts += [_stat_value(folder / name, "oom_kill") for name in ("memory.events", "memory.oom_control")]
    return max(counts)


def shm_free_bytes(*, folder: Path = Path("/dev/shm")) -> int | None:  # noqa: S108 - where torch puts batches
    """Return the free bytes of the shared-memory file system; None where there is none (Windows, macOS)."""
    if not hasattr(os, "statvfs") or not folder.is_dir():
        return None
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def cpu_pressure(*, root: Path = _ROOT) -> float | None:
    """Return the share of the last ten seconds in which somebody waited for a core; None if unknown."""
    for word in _read(root / "proc/pressure/cpu").split():
        if word.startswith("avg10="):
            return float(word.removeprefix("avg10=")) / 100
    return None


def cgroup_folders(controller: str, *, root: Path = _ROOT) -> list[Path]:
    """Return the folders of this process's cgroup for a controller, from its own up to the mount's root.

    Both hierarchies are looked at: v2's single tree and v1's tree per controller. A path that the mount does
    not show (as inside a container with a cgroup namespace of the host) falls back to the mount's own root.
    """
    mounts = _cgroup_mounts(root)
    folders: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for kind, options, mount_root, mount_point in mounts:
            is_v2 = controllers == "" and kind == "cgroup2"
            is_v1 = kind == "cgroup" and controller in controllers.split(",") and controller in options
            if is_v2 or is_v1:
                folders += _with_ancestors(root / mount_point.lstrip("/"), mount_root, path)
    return folders


def _with_ancestors(mount: Path, mount_root: str, path: str) -> list[Path]:
    inside = path
    if mount_root != "/" and (path == mount_root or path.startswith(mount_root.rstrip("/") + "/")):
        inside = path[len(mount_root.rstrip("/")) :]
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:
        parts = []
    folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if folder.is_dir()]


def _cgroup_mounts(root: Path) -> list[tuple[str, list[str], str, str]]:
    """Return (type, super options, root inside the hierarchy, mount point) of every cgroup mount."""
    mounts = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if separator and len(fields) >= 5 and tail and tail[0] in ("cgroup", "cgroup2"):
            options = tail[2].split(",") if len(tail) > 2 else []
            mounts.append((tail[0], options, fields[3], fields[4]))
    return mounts


def _mem_available(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().available)


def _stat_value(path: Path, key: str) -> int:
    for line in _read(path).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == key:
            return int(words[1])
    return 0


def _number(path: Path) -> int | None:
    try:
        return int(_read(path).strip())
    except ValueError:  # absent, or "max"
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _positive_int(text: str | None) -> int | None:
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if value > 0 else None
