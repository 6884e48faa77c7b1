"""Checks of the machine that need no torch: Python, cores, what may be committed, the start method."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.doctor.sizing.limits import cores_text, open_files_limit
from dsrface.runtime.commit import free_commit_bytes
from dsrface.runtime.resources import Cores, Memory, cpu_pressure, effective_cores, shm_free_bytes
from dsrface.runtime.start_methods import available_start_methods, effective_start_method
from dsrface.runtime.text import size_text


@dataclass(frozen=True)
class Machine:
    """What the checks of the machine look at.

    Args:
        asked: The start method asked for: `auto`, `all`, or a method.
        world_size: Processes that load data here; None for what the environment says.
        python: Version of the Python that the data set is examined in; empty for this one.
        source: Who chose that Python's start method; empty for this one.
    """

    asked: str
    world_size: int | None
    python: str = ""
    source: str = ""


def start_method(asked: str) -> tuple[str, str]:
    """Return the start method to examine and who chose it.

    Args:
        asked: `auto`, `all`, or a method.
    """
    return (asked, "--start-method") if asked not in ("auto", "all") else effective_start_method()


def methods_to_prove(asked: str) -> list[str]:
    """Return the start methods to examine with real workers."""
    return available_start_methods() if asked == "all" else [start_method(asked)[0]]


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


def _python(here: Machine) -> Finding:
    version = here.python or platform.python_version()
    return PYTHON.finding(
        "info",
        f"Python {version} on {platform.system()} {platform.machine()}",
        data={"python": version} if here.python else {"python": version, "executable": sys.executable},
    )


def _start_method(here: Machine) -> Finding:
    method, source = start_method(here.asked)
    source = here.source or source
    have = available_start_methods()
    data = {"method": method, "source": source, "available": have}
    if method not in have:
        return START_METHOD.finding(
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
    return START_METHOD.finding("info", f"{method} ({source}): {notes[method]}", data=data)


def _cores(cores: Cores) -> Finding:
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
        return CORES.finding(
            "warn",
            f"{summary}, though {cores.host} are shown",
            matters="os.cpu_count, psutil and torch do not see the quota: defaults start too many workers.",
            fix=f"Use at most {cores.effective} CPU-bound workers, or raise the container's CPU limit.",
            data=data,
        )
    if load is not None and load > 1.5 * cores.host:
        return CORES.finding(
            "info",  # says nothing against the launch; a recommendation made now tells its confidence
            f"{summary}; the machine is busy: load {load:.1f} on {cores.host} cores",
            matters="Timings taken now are not those of a quiet machine.",
            fix="Run the doctor again when the machine is idle.",
            data=data,
        )
    return CORES.finding("pass", summary, data=data)


def _commit() -> Finding:
    """Windows: each spawned worker commits torch's libraries again, against RAM plus page file."""
    if os.name != "nt":
        return COMMIT.finding("skip", "concerns Windows only")
    free = free_commit_bytes()
    if free is None:
        return COMMIT.finding("skip", "the system does not tell how much may be committed")
    data = {"free_bytes": free}
    has_cuda = not _is_torch_for_cpu()
    if free < (16 if has_cuda else 4) << 30:
        each = "with CUDA libraries takes 2-4 GiB" if has_cuda else "takes about half a GiB"
        return COMMIT.finding(
            "warn",
            f"{size_text(free)} may still be committed; each worker {each}",
            matters="[WinError 1455] The paging file is too small for this operation to complete.",
            fix="Enlarge the paging file (System, Advanced, Performance), or use fewer workers.",
            data=data,
        )
    return COMMIT.finding("pass", f"{size_text(free)} may still be committed", data=data)


def _is_torch_for_cpu() -> bool:
    """Return what torch says of itself; the metadata of its wheel for Windows has no `+cpu`."""
    spec = importlib.util.find_spec("torch")  # found, not imported
    with contextlib.suppress(OSError):
        text = Path(spec.origin or "").with_name("version.py").read_text(encoding="utf-8") if spec else ""
        return re.search(r"^__version__ = '[^']+\+cpu'$", text, re.MULTILINE) is not None
    return False


PYTHON = Check(
    id="env.python",
    order=10,
    worst="info",
    title="which Python",
    why="The default start method and the texts of pickle errors depend on the version.",
    how="platform.python_version().",
    fix="Nothing to do.",
    runs={"machine": lambda _, machine: _python(machine)},
)

CORES = Check(
    id="env.cpu",
    order=40,
    worst="warn",
    title="effective cores",
    why=(
        "os.cpu_count, the affinity mask and psutil ignore a container's CPU quota, so defaults "
        "start too many workers, which then wait for each other."
    ),
    how=(
        "The smallest of cores, affinity, cgroup v1/v2 quota (every ancestor) and "
        "SLURM_CPUS_PER_TASK, divided by LOCAL_WORLD_SIZE; also load and CPU pressure."
    ),
    fix="No more CPU-bound workers than effective cores, or a larger quota.",
    errors=(
        (
            "This DataLoader will create 8 worker processes in total. Our suggested max number of "
            "worker in current system is 2"
        ),
    ),
    runs={"machine": lambda _, machine: _cores(effective_cores(world_size=machine.world_size))},
)

COMMIT = Check(
    id="env.commit",
    order=100,
    worst="warn",
    title="Windows: memory that may be committed",
    why="Each spawned worker commits the CUDA libraries again.",
    how="Free memory plus page file.",
    fix="A larger paging file, or fewer workers.",
    errors=(
        (
            "OSError: [WinError 1455] The paging file is too small for this operation to complete. "
            'Error loading "torch\\lib\\shm.dll"'
        ),
    ),
    runs={"machine": lambda _, __: _commit()},
)

START_METHOD = Check(
    id="mp.start_method",
    order=10,
    worst="warn",
    title="how workers are started, and who decided",
    why=(
        "fork copies the process (Linux up to Python 3.13); spawn (Windows, macOS) and forkserver "
        "(Linux from 3.14) pickle the data set. The same script works here and fails there."
    ),
    how="multiprocessing.get_start_method(allow_none=True), which does not fix the method.",
    fix="Pass multiprocessing_context= to the DataLoader; do not set it globally.",
    errors=("RuntimeError: context has already been set",),
    runs={"machine": lambda _, machine: _start_method(machine)},
)
