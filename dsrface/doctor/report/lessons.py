"""The lesson of the classic case: a Dataset that holds a network."""

from __future__ import annotations


def lesson(path: str, device: str, *, is_on_gpu: bool) -> tuple[str, ...]:
    """Return what fork and spawn would do, why workers stay at 0, and the two ways out, a line each.

    Args:
        path: The network, e.g. `dataset.dsr_model`.
        device: Where it is, or would be, e.g. `cuda:0`.
        is_on_gpu: Whether it is there now.
    """
    here = () if is_on_gpu else (f"On the CPU, as here, workers can use {path}; on {device} they could not:",)
    fork = 'fork: its first call in a worker raises "Cannot re-initialize CUDA in forked subprocess".'
    spawn = (
        "spawn, forkserver: it is sent as a CUDA IPC handle; every worker opens a CUDA context of its own "
        f"(hundreds of MB) and queues for {device}; Windows, WSL2 and Jetson refuse."
    )
    zero = "So num_workers must stay 0, and the GPU gets one item at a time. Instead, one of these:"
    once = "- Run the network once over all items, store what it gives, and let the Dataset read that."
    batch = "- Return the network's input from the Dataset, and run it on the batch in the training step."
    return (*here, fork, spawn, zero, once, batch)
