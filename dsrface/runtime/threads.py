"""How many threads torch may use, and how they wait; free of torch, whose import comes later."""

from __future__ import annotations

import os

from dsrface.runtime.resources import effective_cores


def set_defaults() -> None:
    """Put the OpenMP settings we measured to be safe into the environment, unless the user has set them.

    On cores shared with other jobs OpenMP's spinning threads cost 2.4-7.6x; waiting passively cures it. Only
    effective before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # the same wish, for Intel's and LLVM's OpenMP


def limit_torch_threads(num_workers: int) -> int:
    """Give torch the cores that the loader's workers leave, at least one; return that number.

    An OMP_NUM_THREADS set by the user (or by torchrun) is obeyed.

    Args:
        num_workers: Worker processes of the loader that feeds this process.
    """
    import torch

    asked = os.environ.get("OMP_NUM_THREADS", "")
    num_threads = (
        int(asked)
        if asked.isdigit() and int(asked) > 0
        else max(1, effective_cores().effective - num_workers)
    )
    torch.set_num_threads(num_threads)
    return num_threads
