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
    fork = (
        f"fork: the worker inherits a CUDA state that it cannot use; its first call on {path} "
        'raises "Cannot re-initialize CUDA in forked subprocess".'
    )
    spawn = (
        f"spawn, forkserver: {path} is sent as a CUDA IPC handle; every worker opens a CUDA context of its "
        f"own on {device} (hundreds of MB) and queues for the same GPU; Windows, WSL2 and Jetson refuse."
    )
    zero = (
        f"{'So as it is' if is_on_gpu else 'Then'} num_workers must stay 0: the GPU waits for every image, "
        "and gets them one at a time."
    )
    once = (
        "Way out 1, run the network once: `dsrface precompute DATA --weights RUN`, then "
        "`dsrface finetune DATA --vlr-size N --dsr-outputs DIR`; the workers then only read images."
    )
    live = (
        "Way out 2, run it on the batch: return the low-resolution image from the Dataset and call the "
        "network in the training step, as `dsrface finetune DATA --vlr-size N --live RUN` does."
    )
    return (*here, fork, spawn, zero, once, live)
