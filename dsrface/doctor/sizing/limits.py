"""What a loader needs of the machine's limits, and how many workers a limit allows."""

from __future__ import annotations

from collections.abc import Callable

from dsrface.runtime.resources import Cores
from dsrface.runtime.text import count_text

ASSUMED_WORKER_BYTES = 220 << 20  # with torch imported, when it was not measured
_FILES_BESIDE = 256  # open before any batch is under way
_FILES_A_TENSOR = 4


def memory_needed_bytes(
    num_workers: int, *, worker_bytes: int, batch_bytes: int, prefetch_factor: int = 2
) -> int:
    """Return what workers and the batches in flight take."""
    return num_workers * worker_bytes + shm_needed_bytes(
        num_workers, batch_bytes=batch_bytes, prefetch_factor=prefetch_factor
    )


def shm_needed_bytes(num_workers: int, *, batch_bytes: int, prefetch_factor: int = 2) -> int:
    """Return what a loader needs in /dev/shm: (n x prefetch + 3) batches.

    Source: measured, found by bisection with private tmpfs mounts at (1, 2), (2, 2) and (2, 4).
    """
    return (num_workers * prefetch_factor + 3) * batch_bytes


def files_needed(num_workers: int, *, tensors_per_batch: int, prefetch_factor: int = 2) -> int:
    """Return the open files a loader needs: each tensor of each batch in flight holds some."""
    return _FILES_BESIDE + _FILES_A_TENSOR * max(1, tensors_per_batch) * num_workers * prefetch_factor


def most_workers(need: Callable[[int], float], have: float) -> int:
    """Return the most workers whose need is met.

    Args:
        need: Of a number of workers; each worker adds the same.
        have: What there is.
    """
    each = need(1) - need(0)
    return max(0, int((have - need(0)) / max(1, each)))


def cores_text(cores: Cores) -> str:
    """Return the cores of this process, and what decided where that is not the machine itself."""
    text = count_text(cores.effective, "core")
    return text if cores.effective == cores.host else f"{text} ({cores.reason})"


def open_files_limit() -> int | None:
    """Return the soft limit of open files; None where there is none."""
    try:
        import resource
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
