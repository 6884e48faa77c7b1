"""Checks of the installation that need torch; made in the guarded process."""

from __future__ import annotations

import os
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dsrface.doctor.checks.machine import has_gpu
from dsrface.doctor.report import Check, guarded

_GRAIN_ELEMENTS = (3, 112, 112)  # 37 632, just above the 32 768 below which torch stays on one thread
_SLOWER = 3.0
_TRIES = 20


def platform_checks(*, import_s: float, method: str) -> list[Check]:
    """Return the checks of torch, torchvision, threads, CUDA and the JPEG decoder.

    Args:
        import_s: Seconds that `import torch` took, which every spawned worker pays.
        method: Effective start method.
    """
    return [
        guarded("env.torch", lambda: _torch(import_s, method)),
        guarded("env.torchvision", torchvision_check),
        guarded("env.threads", _threads),
        guarded("mp.cuda_poison", lambda: _poison(method)),
        guarded("env.decoder", _decoder),
    ]


def _torch(import_s: float, method: str) -> Check:
    data = {"version": torch.__version__, "cuda": torch.version.cuda or "", "import_s": round(import_s, 2)}
    pays = "" if method == "fork" else f"; every {method} worker pays that"
    return Check(
        "env.torch", "info", f"torch {torch.__version__}, imported in {import_s:.1f} s{pays}", data=data
    )


def torchvision_check(*, is_imported: bool = False) -> Check:
    """Check the classic: a CUDA build of one with a CPU build of the other, or releases that do not fit.

    Args:
        is_imported: Import torchvision, which takes a second or two, even when the versions look right.
    """
    try:
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return Check("env.torchvision", "skip", "torchvision is not installed")
    torch_build, vision_build = _build(torch.__version__), _vision_build()
    fix = (
        "Install both from one place: `pip install --force-reinstall torch torchvision`, or both with "
        "`--index-url https://download.pytorch.org/whl/cpu`."
    )
    data = {"version": version, "build": vision_build, "torch": torch.__version__}
    if is_imported or (torch_build and vision_build and torch_build != vision_build):
        try:
            import torchvision  # noqa: F401
        except Exception as error:  # noqa: BLE001 - RuntimeError, ImportError, OSError: all mean a broken pair
            return Check(
                "env.torchvision",
                "fail",
                f"torchvision {version} does not import beside torch {torch.__version__}: {error}",
                matters="The two are not built for each other.",
                fix=fix,
                data=data,
            )
    expected = _expected_torch()
    if expected and not torch.__version__.startswith(expected):
        return Check(
            "env.torchvision",
            "warn",
            f"torchvision {version} is made for torch {expected}, here is {torch.__version__}",
            fix=fix,
            data=data,
        )
    return Check(
        "env.torchvision", "pass", f"torchvision {version} goes with torch {torch.__version__}", data=data
    )


def _build(version: str) -> str:
    return version.partition("+")[2]


def _vision_build() -> str:
    """Return e.g. `cu130` from torchvision's version file, without importing it; wheel names hide it."""
    for file in metadata.files("torchvision") or []:
        if file.name == "version.py":
            found = re.search(
                r"__version__ = '[^'+]+\+(\w+)'", Path(str(file.locate())).read_text(encoding="utf-8")
            )
            return found.group(1) if found else ""
    return ""


def _expected_torch() -> str:
    """Return the torch release that torchvision names as its requirement, e.g. `2.14.1`, or ""."""
    for requirement in metadata.requires("torchvision") or []:
        name, _, version = requirement.partition("==")
        if name.strip() == "torch" and version:
            return version.split(";")[0].strip()
    return ""


def _threads() -> Check:
    threads = torch.get_num_threads()
    settings = {
        name: os.environ.get(name, "")
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    }
    one = _zeros_s(1)
    many = _zeros_s(threads) if threads > 1 else one
    torch.set_num_threads(threads)
    data: dict[str, Any] = {"torch_threads": threads, "one_thread_s": one, "all_threads_s": many, **settings}
    ratio = many / one if one > 0 else 1.0
    if ratio > _SLOWER and many > 2e-4:
        return Check(
            "env.threads",
            "warn",
            f"a 112x112 image costs {many * 1e3:.2f} ms on {threads} threads, {one * 1e3:.2f} ms on one",
            matters="The cores are busy, and threads of one process wait for each other. Workers use one "
            "thread, num_workers=0 does not.",
            fix="Set OMP_WAIT_POLICY=PASSIVE before torch is imported, or OMP_NUM_THREADS=1.",
            data=data,
        )
    return Check("env.threads", "pass", f"torch uses {threads} threads here, 1 in a worker", data=data)


def _zeros_s(threads: int) -> float:
    torch.set_num_threads(threads)
    times = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        torch.zeros(_GRAIN_ELEMENTS)
        times.append(time.perf_counter() - begin)
    return min(times)  # a neighbour's load slows some tries, what this machine lacks slows all


def _poison(method: str) -> Check:
    is_safe = os.environ.get("DSRFACE_DOCTOR_USER_NVML") == "1"
    data = {"gpu_hardware": has_gpu(), "nvml_check": is_safe}
    if method != "fork":
        return Check("mp.cuda_poison", "pass", f"{method} workers start fresh", data=data)
    if not has_gpu():
        return Check("mp.cuda_poison", "pass", "no CUDA device", data=data)
    if is_safe:
        return Check("mp.cuda_poison", "pass", "PYTORCH_NVML_BASED_CUDA_CHECK=1 is set", data=data)
    return Check(
        "mp.cuda_poison",
        "warn",
        "torch.cuda.is_available() alone initialises CUDA, and workers forked after it cannot use it",
        matters="It concerns workers that call CUDA themselves.",
        fix="Set PYTORCH_NVML_BASED_CUDA_CHECK=1 before torch is imported.",
        data=data,
    )


def _decoder() -> Check:
    try:
        from PIL import __version__ as pillow_version
        from PIL import features
    except ImportError:
        return Check("env.decoder", "skip", "Pillow is not installed")
    is_turbo = bool(features.check("libjpeg_turbo"))
    data = {"pillow": pillow_version, "libjpeg_turbo": is_turbo}
    if is_turbo:
        return Check("env.decoder", "pass", f"Pillow {pillow_version} decodes with libjpeg-turbo", data=data)
    return Check(
        "env.decoder",
        "warn",
        f"Pillow {pillow_version} decodes JPEG without libjpeg-turbo, some 3 times slower",
        fix=f"{Path(sys.executable).name} -m pip install --force-reinstall pillow (the wheel has it).",
        data=data,
    )
