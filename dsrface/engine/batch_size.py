"""Find the batch size that gives the most images per second, by trying."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dsrface.runtime.devices import Device, is_out_of_memory

CPU_SIZES = (8, 16, 32, 64, 128)
GPU_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
_GOOD_ENOUGH = 0.97
_BUDGET_S = 4.0  # no further size is tried after that


@dataclass(frozen=True)
class BatchChoice:
    """A batch size, and why.

    Args:
        batch_size: The smallest that comes within 3 % of the best, of batches side by side the largest.
        reason: One line, human-readable.
    """

    batch_size: int
    reason: str


def choose_batch_size(
    run: Callable[[int], object],
    *,
    device: Device,
    at_once: int = 1,
) -> BatchChoice:
    """Try growing batch sizes until they stop helping, memory ends, or some seconds have passed.

    Args:
        run: Does the work on a batch of some size, or on several such batches side by side.
        device: Where it runs; CUDA work is waited for.
        at_once: How many batches `run` works on.
    """
    sizes = GPU_SIZES if device.kind == "cuda" else CPU_SIZES
    rates: dict[int, float] = {}
    begin = time.perf_counter()
    note = ""
    for size in (1, *sizes):
        try:
            run(size)  # the first call of a size sets up kernels and memory
            rates[size] = at_once * size / max(_seconds(run, size, device), 1e-9)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            note = f", {size} does not fit in memory"
            break
        if size == 1:  # only to know whether there is time to try the others
            seconds = at_once / rates.pop(1)
            if seconds * sizes[0] > _BUDGET_S:
                return BatchChoice(sizes[0], f"{sizes[0]}: untried, as one image takes {seconds:.1f} s")
            begin = time.perf_counter()
            continue
        best = max(rates, key=lambda key: rates[key])
        if size >= 4 * best or time.perf_counter() - begin > _BUDGET_S:
            break
    if not rates:
        return BatchChoice(1, f"1: not even the smallest batch fits{note}")
    top = max(rates.values())
    good = [size for size, rate in rates.items() if rate >= _GOOD_ENOUGH * top]
    # Threads with a batch each ask for the interpreter's lock at every layer: fewer batches ask less often.
    chosen = max(good) if at_once > 1 else min(good)
    tried = ", ".join(f"{size}: {rate:.0f}/s" for size, rate in rates.items())
    side_by_side = f", {at_once} batches at once, one thread each" if at_once > 1 else ""
    return BatchChoice(chosen, f"auto -> {chosen}{side_by_side} ({tried}{note})")


def _seconds(run: Callable[[int], object], size: int, device: Device) -> float:
    """Return the best of a few timed calls: what disturbs a call only ever makes it slower."""
    best = float("inf")
    spent = 0.0
    for _ in range(5):
        start = time.perf_counter()
        run(size)
        if device.kind == "cuda":
            torch.cuda.synchronize(device.torch_name)
        taken = time.perf_counter() - start
        best = min(best, taken)
        spent += taken
        if spent > 0.3:
            break
    return best
