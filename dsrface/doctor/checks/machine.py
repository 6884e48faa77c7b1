"""Checks of the machine that need no torch: cores, memory, open files, storage, start method."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsrface.doctor.facts import SurveyFacts
from dsrface.doctor.report import Check, guarded
from dsrface.doctor.sizing.limits import (
    cores_text,
    files_needed,
    memory_needed_bytes,
    most_workers,
    open_files_limit,
    shm_needed_bytes,
)
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.runtime.cpu import Cores, Memory, cpu_pressure, effective_cores, memory_limit, shm_free_bytes
from dsrface.runtime.start_methods import available_start_methods, effective_start_method
from dsrface.runtime.text import count_text, size_text

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
_FEW_FILES = 4096
_SMALL_SHM = 1 << 30
_WARN_SHARE = 0.8
_MUCH_HELP = 0.2


def start_method(asked: str) -> tuple[str, str]:
    """Return the start method to examine and who chose it.

    Args:
        asked: `auto`, `all`, or a method.
    """
    return (asked, "--start-method") if asked not in ("auto", "all") else effective_start_method()


def methods_to_prove(asked: str) -> list[str]:
    """Return the start methods to examine with real workers."""
    return available_start_methods() if asked == "all" else [start_method(asked)[0]]


def platform_checks(asked: str, *, world_size: int | None) -> list[Check]:
    """Return the checks that need nothing but files under /proc and /sys."""
    return [
        guarded("env.python", _python),
        guarded("mp.start_method", lambda: _start_method(asked)),
        guarded("env.cpu", lambda: _cores(effective_cores(world_size=world_size))),
        guarded("env.commit", _commit),
        guarded("env.ram", lambda: memory_check(memory_limit(), None, 0)),
        guarded("env.shm", lambda: shm_check(shm_free_bytes(), None, 0)),
        guarded("env.fds", lambda: files_check(open_files_limit(), None, 0)),
    ]


def limit_checks(facts: SurveyFacts, num_workers: int, *, world_size: int) -> list[Check]:
    """Return memory, shared memory and open files against what a loader of this many workers needs."""
    everyone = num_workers * world_size
    return [
        guarded("env.ram", lambda: memory_check(memory_limit(), facts, everyone)),
        guarded("env.shm", lambda: shm_check(shm_free_bytes(), facts, everyone)),
        guarded("env.fds", lambda: files_check(open_files_limit(), facts, num_workers)),
    ]


def facts(asked: str, cores: Cores, memory: Memory) -> dict[str, Any]:
    """Return the platform section of the report, without torch's part."""
    method, source = start_method(asked)
    return {
        "os": sys.platform,
        "python": platform.python_version(),
        "torch": "",
        "start_method": method,
        "start_method_source": source,
        "cores": {
            "host": cores.host,
            "affinity": cores.affinity,
            "quota": cores.quota,
            "slurm": cores.slurm,
            "world_size": cores.world_size,
            "effective": cores.effective,
            "reason": cores.reason,
        },
        "memory_available": memory.available_bytes,
        "memory_limit": memory.limit_bytes,
        "shm_free": shm_free_bytes(),
        "open_files": open_files_limit(),
    }


def has_gpu() -> bool:
    """Return whether the machine shows an NVIDIA device, whatever CUDA_VISIBLE_DEVICES says."""
    if os.name == "nt":
        return shutil.which("nvidia-smi") is not None  # comes with the driver
    return Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/gpus").is_dir()


def memory_check(memory: Memory, facts: SurveyFacts | None, num_workers: int) -> Check:
    """Check free memory against workers and the batches under way."""
    have = memory.available_bytes
    free = f"{size_text(have)} free" + ("" if memory.limit_bytes is None else f" ({memory.reason})")
    data: dict[str, Any] = {"available_bytes": have, "limit_bytes": memory.limit_bytes}
    if facts is None or not num_workers:
        return Check("env.ram", "warn" if have < 2 << 30 else "pass", free, data=data)
    worker = facts.worker_bytes

    def needed(number: int) -> int:
        return memory_needed_bytes(number, worker_bytes=worker, batch_bytes=facts.batch_bytes)

    need = needed(num_workers)
    data |= {"needed_bytes": need, "worker_bytes": worker, "num_workers": num_workers}
    workers = count_text(num_workers, "worker")
    summary = f"{free}; {workers} of {size_text(worker)} and their batches need {size_text(need)}"
    status = _against(need, have)
    if status == "pass":
        return Check("env.ram", status, summary, data=data)
    return Check(
        "env.ram",
        status,
        summary,
        matters="The kernel kills a worker: 'DataLoader worker (pid N) is killed by signal: Killed'.",
        fix=f"Use at most {count_text(most_workers(needed, _WARN_SHARE * have), 'worker')}, "
        "or a smaller batch.",
        data=data,
    )


def shm_check(free: int | None, facts: SurveyFacts | None, num_workers: int) -> Check:
    """Check /dev/shm against (workers x prefetch + 3) batches."""
    if free is None:
        return Check("env.shm", "skip", "this system has no /dev/shm")
    data: dict[str, Any] = {"free_bytes": free}
    matters = "When it is full a worker dies: 'Bus error' or 'unable to allocate shared memory'."
    docker = "docker run --shm-size={}g (or --ipc=host); Kubernetes: an emptyDir of medium Memory on /dev/shm"
    if facts is None or not facts.batch_bytes or not num_workers:
        if free >= _SMALL_SHM:
            return Check("env.shm", "pass", f"{size_text(free)} free in /dev/shm", data=data)
        return Check(
            "env.shm",
            "warn",
            f"only {size_text(free)} free in /dev/shm, through which workers hand over their batches",
            matters=matters,
            fix=docker.format(8),
            data=data,
        )
    batch = facts.batch_bytes
    need = shm_needed_bytes(num_workers, batch_bytes=batch)
    data |= {"needed_bytes": need, "batch_bytes": batch, "num_workers": num_workers}
    summary = (
        f"{size_text(free)} free in /dev/shm, this loader needs {size_text(need)} = "
        f"({num_workers} x 2 + 3) x {size_text(batch)}"
    )
    status = _against(need, free)
    if status == "pass":
        return Check("env.shm", status, summary, data=data)
    return Check(
        "env.shm",
        status,
        summary,
        matters=matters,
        fix=f"{docker.format(max(1, -(-2 * need // 2**30)))}; or fewer workers.",
        data=data,
    )


def files_check(limit: int | None, facts: SurveyFacts | None, num_workers: int) -> Check:
    """Check the limit of open files: each tensor of each batch under way holds one."""
    if limit is None:
        return Check("env.fds", "pass", "no limit of open files")
    need, why = _FEW_FILES, "many loaders need more"
    if facts is not None:
        need = files_needed(max(1, num_workers), tensors_per_batch=facts.tensors_per_batch)
        why = f"this loader needs {need}"
    data = {"limit": limit, "needed": need}
    if limit >= need:
        return Check("env.fds", "pass", f"{limit} open files allowed", data=data)
    return Check(
        "env.fds",
        "warn",
        f"at most {limit} open files; {why}",
        matters="'Too many open files', or 'received 0 items of ancdata', once batches are kept.",
        fix="ulimit -n 65535 in the shell that starts the job; clone batches that you keep.",
        data=data,
    )


def storage_check(
    paths: Sequence[str], cost: ItemCost | None, *, mounts: Path = Path("/proc/mounts")
) -> Check:
    """Check the file system the data lies on and how long items wait for it."""
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
            return Check(
                "env.storage",
                "info",
                f"{said}, but not for a disk: none was read (a lock, a sleep, a network or another process)",
                data=data,
            )
        return Check(
            "env.storage",
            "warn",
            f"{said}, for {next(iter(slow.values()), 'a disk')}",
            where=where,
            matters="Then more workers than cores are right, and packed data would be better.",
            fix="Copy the data to a local disk, or pack many small files into a few large ones.",
            data=data,
        )
    if slow:
        kind = next(iter(slow.values()))
        return Check(
            "env.storage",
            "info",
            f"the data is on {kind}; items were quick this time, a cold cache will not be",
            where=where,
            fix="Copy it to a local disk before a long run.",
            data=data,
        )
    if not kinds:
        return Check(
            "env.storage",
            "pass" if cost else "skip",
            "items do not wait for storage" if cost else "no data set to read",
            data=data,
        )
    return Check(
        "env.storage", "pass", f"local storage ({', '.join(sorted(set(kinds.values())))})", data=data
    )


def worker_threads_check(
    notes: Sequence[Mapping[str, Any]], cores: int, cost: ItemCost | None = None
) -> Check | None:
    """Check the threads that workers report; None when they are as they should be.

    Args:
        notes: What each worker said.
        cores: That this process may use.
        cost: Of an item; OpenCV that is loaded and not used has threads too, which then cost nothing.
    """
    is_used = cost is None or cost.helper_s > _MUCH_HELP * cost.processor_s
    crowded = [
        note
        for note in notes
        if ((note.get("cv2_threads") or 0) > 1 and is_used) or (note.get("torch_threads") or 0) > 1
    ]
    shrunk = [note for note in notes if note.get("affinity") and note["affinity"] < cores]
    if crowded:
        return Check(
            "env.threads",
            "warn",
            f"each worker runs {max(note.get('cv2_threads') or 1 for note in crowded)} threads of its own",
            matters="Workers times threads fight over the cores.",
            fix="cv2.setNumThreads(0) and torch.set_num_threads(1) in worker_init_fn; OMP_NUM_THREADS=1.",
            data={"workers": list(notes)},
        )
    if shrunk:
        return Check(
            "env.threads",
            "warn",
            f"workers may use {shrunk[0]['affinity']} of {cores} cores: a library narrowed the affinity mask",
            matters="All workers then share those cores.",
            fix="Set OMP_PROC_BIND=false, or os.sched_setaffinity(0, cores) in worker_init_fn.",
            data={"workers": list(notes)},
        )
    return None


def file_system(path: str, *, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that a path lies on, or "unknown"."""
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


def _python() -> Check:
    return Check(
        "env.python",
        "info",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        data={"python": platform.python_version(), "executable": sys.executable},
    )


def _start_method(asked: str) -> Check:
    method, source = start_method(asked)
    have = available_start_methods()
    data = {"method": method, "source": source, "available": have}
    if method not in have:
        return Check(
            "mp.start_method",
            "warn",
            f"{method} does not exist on {sys.platform}; there are {', '.join(have)}",
            fix="Leave --start-method at auto.",
            data=data,
        )
    notes = {
        "fork": "workers inherit this process as it is, locks, threads and open files included",
        "spawn": "workers start fresh: the data set is pickled, every module imported again",
        "forkserver": "workers are forked from a clean server: the data set is pickled",
    }
    return Check("mp.start_method", "info", f"{method} ({source}): {notes[method]}", data=data)


def _cores(cores: Cores) -> Check:
    pressure = cpu_pressure()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    data = {
        "effective": cores.effective,
        "host": cores.host,
        "quota": cores.quota,
        "pressure": pressure,
        "load": load,
    }
    summary = cores_text(cores)
    if cores.effective < cores.host // cores.world_size and cores.quota is not None:
        return Check(
            "env.cpu",
            "warn",
            f"{summary}, though {cores.host} are shown",
            matters="os.cpu_count, psutil and torch do not see the quota: defaults start too many workers.",
            fix=f"Use at most {cores.effective} CPU-bound workers, or raise the container's CPU limit.",
            data=data,
        )
    if load is not None and load > 1.5 * cores.host:
        return Check(
            "env.cpu",
            "info",  # says nothing against the launch; a recommendation made now tells its confidence
            f"{summary}; the machine is busy: load {load:.1f} on {cores.host} cores",
            matters="Timings taken now are not those of a quiet machine.",
            fix="Run the doctor again when the machine is idle.",
            data=data,
        )
    return Check("env.cpu", "pass", summary, data=data)


def _commit() -> Check:
    """Windows: each spawned worker commits torch's libraries again, against RAM plus page file."""
    if os.name != "nt":
        return Check("env.commit", "skip", "concerns Windows only")
    import psutil

    free = int(psutil.virtual_memory().available + psutil.swap_memory().free)
    data = {"free_bytes": free}
    if free < 16 << 30:
        return Check(
            "env.commit",
            "warn",
            f"{size_text(free)} may still be committed; each worker with CUDA libraries takes 2-4 GiB",
            matters="[WinError 1455] The paging file is too small for this operation to complete.",
            fix="Enlarge the paging file (System, Advanced, Performance), or use fewer workers.",
            data=data,
        )
    return Check("env.commit", "pass", f"{size_text(free)} may still be committed", data=data)


def _against(need: float, have: float) -> str:
    return "fail" if need > have else "warn" if need > _WARN_SHARE * have else "pass"
