"""Checks of the installation that need torch; made in the guarded process."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.checks.machine import has_gpu
from dsrface.doctor.report import Finding
from dsrface.doctor.sizing.measure import ItemCost

_GRAIN_ELEMENTS = (3, 112, 112)  # 37 632, just above the 32 768 below which torch stays on one thread
_SLOWER = 3.0
_TRIES = 20
_MUCH_HELP = 0.2


@dataclass(frozen=True)
class Installation:
    """What the checks of the installation look at.

    Args:
        import_s: Seconds that `import torch` took, which every spawned worker pays.
        method: Effective start method.
        is_job: This is the process that trains; what it has not imported by now, it does not use.
    """

    import_s: float
    method: str
    is_job: bool = False


def _torch(import_s: float, method: str) -> Finding:
    import torch

    data = {"version": torch.__version__, "cuda": torch.version.cuda or "", "import_s": round(import_s, 2)}
    pays = "" if method == "fork" else f"; every {method} worker pays that"
    return TORCH.finding("info", f"torch {torch.__version__}, imported in {import_s:.1f} s{pays}", data=data)


def torchvision_check(*, is_imported: bool = False, is_job: bool = False) -> Finding:
    """Check the classic: a CUDA build of one with a CPU build of the other, or releases that do not fit.

    Args:
        is_imported: Import torchvision, which takes a second or two, even when the versions look right.
        is_job: As of `Installation`.
    """
    import torch

    try:
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return TORCHVISION.finding("skip", "torchvision is not installed")
    if is_job and sys.modules.get("torchvision") is None:
        return TORCHVISION.finding("skip", "torchvision is not imported here", data={"version": version})
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
            missing = _missing_requirement(error)
            return TORCHVISION.finding(
                "fail",
                f"torchvision {version} does not import with torch {torch.__version__}: {error}",
                matters=(
                    f"{missing}, which torchvision needs, is not installed."
                    if missing
                    else "The two are not built for each other."
                ),
                fix=f"`pip install {missing}`." if missing else fix,
                data=data,
            )
    expected = _expected_torch()
    if expected and not torch.__version__.startswith(expected):
        return TORCHVISION.finding(
            "warn",
            f"torchvision {version} is made for torch {expected}, here is {torch.__version__}",
            fix=fix,
            data=data,
        )
    return TORCHVISION.finding(
        "pass", f"torchvision {version} goes with torch {torch.__version__}", data=data
    )


def _missing_requirement(error: Exception) -> str:
    """Return the package whose lack made torchvision's import fail, or ""."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.partition(".")[0]
    return "" if name in {"torch", "torchvision"} else {"PIL": "pillow"}.get(name, name)


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


def _threads() -> Finding:
    import torch

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
        return THREADS.finding(
            "warn",
            f"a 112x112 image costs {many * 1e3:.2f} ms on {threads} threads, {one * 1e3:.2f} ms on one",
            matters="The cores are busy, and threads of one process wait for each other. Workers use one "
            "thread, num_workers=0 does not.",
            fix="Set OMP_WAIT_POLICY=PASSIVE before torch is imported, or OMP_NUM_THREADS=1.",
            data=data,
        )
    return THREADS.finding("pass", f"torch uses {threads} threads here, 1 in a worker", data=data)


def _zeros_s(threads: int) -> float:
    import torch

    torch.set_num_threads(threads)
    times = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        torch.zeros(_GRAIN_ELEMENTS)
        times.append(time.perf_counter() - begin)
    return min(times)  # a neighbour's load slows some tries, what this machine lacks slows all


def _poison(method: str) -> Finding:
    is_safe = os.environ.get("DSRFACE_DOCTOR_USER_NVML") == "1"
    data = {"gpu_hardware": has_gpu(), "nvml_check": is_safe}
    if method != "fork":
        return CUDA_POISON.finding("pass", f"{method} workers start fresh", data=data)
    if not has_gpu():
        return CUDA_POISON.finding("pass", "no CUDA device", data=data)
    if is_safe:
        return CUDA_POISON.finding("pass", "PYTORCH_NVML_BASED_CUDA_CHECK=1 is set", data=data)
    return CUDA_POISON.finding(
        "warn",
        "torch.cuda.is_available() alone initialises CUDA, and workers forked after it cannot use it",
        matters="It concerns workers that call CUDA themselves.",
        fix="Set PYTORCH_NVML_BASED_CUDA_CHECK=1 before torch is imported.",
        data=data,
    )


def _decoder() -> Finding:
    try:
        from PIL import __version__ as pillow_version
        from PIL import features
    except ImportError:
        return DECODER.finding("skip", "Pillow is not installed")
    is_turbo = bool(features.check("libjpeg_turbo"))
    data = {"pillow": pillow_version, "libjpeg_turbo": is_turbo}
    if is_turbo:
        return DECODER.finding("pass", f"Pillow {pillow_version} decodes with libjpeg-turbo", data=data)
    return DECODER.finding(
        "warn",
        f"Pillow {pillow_version} decodes JPEG without libjpeg-turbo, some 3 times slower",
        fix=f"{Path(sys.executable).name} -m pip install --force-reinstall pillow (the wheel has it).",
        data=data,
    )


def worker_threads_check(
    notes: Sequence[Mapping[str, Any]], cores: int, cost: ItemCost | None = None
) -> Finding | None:
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
        return THREADS.finding(
            "warn",
            f"each worker runs {max(map(_threads_in, crowded))} threads of its own",
            matters="Workers times threads fight over the cores.",
            fix="cv2.setNumThreads(0) and torch.set_num_threads(1) in worker_init_fn; OMP_NUM_THREADS=1.",
            data={"workers": list(notes)},
        )
    if shrunk:
        return THREADS.finding(
            "warn",
            f"workers may use {shrunk[0]['affinity']} of {cores} cores: a library narrowed the affinity mask",
            matters="All workers then share those cores.",
            fix="Set OMP_PROC_BIND=false, or os.sched_setaffinity(0, cores) in worker_init_fn.",
            data={"workers": list(notes)},
        )
    return None


def _threads_in(note: Mapping[str, Any]) -> int:
    return max(note.get("cv2_threads") or 1, note.get("torch_threads") or 1)


TORCH = Check(
    id="env.torch",
    order=20,
    worst="fail",
    title="whether torch imports, and how long it takes",
    why="Every spawned worker imports torch again: seconds for each, before the first batch.",
    how="import torch in a process of its own, timed.",
    fix="Reinstall torch when it does not import; keep workers persistent when it takes long.",
    errors=("OSError: libcudart.so: cannot open shared object file",),
    runs={"torch": lambda _, installation: _torch(installation.import_s, installation.method)},
)

TORCHVISION = Check(
    id="env.torchvision",
    order=30,
    worst="fail",
    title="whether torch and torchvision belong together",
    why="A CUDA build of one next to a CPU build of the other cannot register its operators.",
    how="The build tags of both, the release torchvision asks for, and an import when in doubt.",
    fix="pip install --force-reinstall torch torchvision, both from one index.",
    errors=(
        "RuntimeError: operator torchvision::nms does not exist",
        "RuntimeError: Couldn't load custom C++ ops",
        "Detected that PyTorch and torchvision were compiled with different CUDA major versions",
    ),
    runs={"torch": lambda _, installation: torchvision_check(is_job=installation.is_job)},
)

THREADS = Check(
    id="env.threads",
    order=80,
    worst="warn",
    title="threads inside workers and of torch here",
    why=(
        "torch gives a worker one thread, but OpenCV and BLAS take all cores in each; and on busy "
        "cores even torch.zeros of a face is a thousand times slower with two threads than with one."
    ),
    how=(
        "torch.zeros(3, 112, 112) with one and with all threads, the best of twenty tries; thread "
        "counts reported by a real worker."
    ),
    fix="cv2.setNumThreads(0) in worker_init_fn, OMP_NUM_THREADS=1, OMP_WAIT_POLICY=PASSIVE.",
    runs={"torch": lambda _, __: _threads()},
)

DECODER = Check(
    id="env.decoder",
    order=110,
    worst="warn",
    title="the JPEG decoder",
    why="Pillow without libjpeg-turbo decodes several times slower.",
    how="PIL.features.",
    fix="Install Pillow's own wheel; Image.draft() or smaller images for large photos.",
    runs={"torch": lambda _, __: _decoder()},
)

CUDA_POISON = Check(
    id="mp.cuda_poison",
    order=30,
    worst="warn",
    title="queries that initialise CUDA",
    why=(
        "torch.cuda.is_available() alone can initialise the driver; a worker forked afterwards "
        "cannot use CUDA."
    ),
    how="PYTORCH_NVML_BASED_CUDA_CHECK, the start method, and whether there is a device.",
    fix="PYTORCH_NVML_BASED_CUDA_CHECK=1 before torch is imported, or another start method.",
    errors=("RuntimeError: CUDA error: initialization error",),
    runs={"torch": lambda _, installation: _poison(installation.method)},
)
