"""Real DataLoaders over the target, with keys and workers of the examination's choice."""

from __future__ import annotations

import multiprocessing
from typing import Any

import torch
from torch.utils.data import DataLoader

from dsrface.doctor.proof.worker import Plan, Watcher
from dsrface.doctor.targets import Target


def make_loader(
    target: Target,
    *,
    num_workers: int,
    method: str = "",
    batches: Any | None = None,
    batch_size: int = 1,
    plan: Plan | None = None,
    seed: int = 0,
    persistent: bool = False,
) -> DataLoader[Any]:
    """Return a loader as the user's would be, but for its keys.

    Args:
        target: What to load.
        num_workers: Worker processes.
        method: How they are started.
        batches: For a map-style target: lists of keys, or single keys where the loader does not collate.
        batch_size: For a stream.
        plan: Watch the workers; None leaves them alone.
        seed: Of the loader's generator, from which the workers' base seed is drawn.
        persistent: Keep the workers from one iteration to the next.
    """
    init = target.worker_init_fn
    if plan is not None:
        init = Watcher(target.worker_init_fn, plan, target.collate_fn)
    options: dict[str, Any] = {}
    if target.is_iterable:
        options["batch_size"] = batch_size if target.is_batched else None
    elif target.is_batched:
        options["batch_sampler"] = batches
    else:
        options.update(batch_size=None, sampler=batches)
    if method == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload(["torch"])
    return DataLoader(
        target.dataset,
        num_workers=num_workers,
        collate_fn=target.collate_fn,
        worker_init_fn=init if num_workers else None,
        multiprocessing_context=method if num_workers else None,
        persistent_workers=persistent and num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )
