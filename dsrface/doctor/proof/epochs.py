"""Whether workers that stay see what the main process changes between epochs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from dsrface.doctor.proof import evidence as written
from dsrface.doctor.proof.keys import natural_batch, proof_batches
from dsrface.doctor.proof.loaders import make_loader
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.proof.worker import Plan
from dsrface.doctor.targets import Target

_START = 7  # number of this start among the evidence
_STREAM_ITEMS = 8
_SETTLED_S = 5.0
_A_PAUSE_S = 0.3


def epoch_is_stale(target: Target, request: Mapping[str, Any]) -> bool | None:
    """Return whether workers that stay repeat the first epoch, which they do not where an epoch changes no
    item; None when no item shows it.

    Args:
        target: What to load.
        request: Of the proof.
    """
    name = request["survey"]["epoch_setters"][0]
    change = setter(target, name)
    if change is None:
        return None
    num_workers = request["num_workers"]
    batches: list[Any] = []
    if not target.is_iterable:
        options = {"num_workers": num_workers, "item_s": request["item_s"], "load_s": request["load_s"]}
        batches = [natural_batch(target, proof_batches(target, **options))] * num_workers
    plan = Plan(request["folder"], _START, num_workers, is_forked=False)
    change(0)
    loader = make_loader(
        target,
        num_workers=num_workers,
        method=request["method"],
        batches=batches,
        batch_size=_STREAM_ITEMS,
        plan=plan,
        persistent=True,
    )
    passes: list[list[str]] = []
    for epoch in (0, 1):
        change(epoch)
        for number, _ in enumerate(loader):
            if target.is_iterable and number >= num_workers:
                break
        passes.append(_items_since(request["folder"], seen=sum(map(len, passes))))
    del loader
    reference = Reference(target)
    here = []
    for epoch in (0, 1):
        change(epoch)
        here.append(_here(reference, target, batches, num_workers))
    if not passes[0]:
        return None
    if here[0] == here[1]:
        return False if "epoch" in name else None  # what is set otherwise may be set to more than was tried
    common = min(_STREAM_ITEMS, *map(len, passes))
    return passes[0][:common] == passes[1][:common]


def setter(target: Target, name: str) -> Callable[[int], None] | None:
    """Return what sets the epoch, for a path such as `dataset.set_epoch` or `dataset.transform.epoch`, or of
    a module's variable such as `train.STEP`.
    """
    root, *parts = name.split(".")
    owner: Any
    if root in target.roots:
        owner = target.roots[root]
        for part in parts[:-1]:
            owner = getattr(owner, part, None)
    else:
        owner = sys.modules.get(name.rpartition(".")[0])
    if owner is None:
        return None
    value: Any = getattr(owner, parts[-1], None)
    if parts[-1] == "set_epoch":
        return cast("Callable[[int], None]", value)
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return lambda epoch: setattr(owner, parts[-1], value ^ bool(epoch))
    if isinstance(value, (int, float)) or tuple(getattr(value, "shape", (2,))) in ((), (1,)):
        return lambda epoch: setattr(owner, parts[-1], value + epoch * max(1, abs(value)))
    return None


def _items_since(folder: str, *, seen: int) -> list[str]:
    """Return the fingerprints of worker 0's items after the first `seen`, once it has no more to load."""
    until = time.monotonic() + _SETTLED_S
    items: list[str] = []
    while True:  # batches that were asked for ahead are loaded although they are not taken
        before = len(items)
        found = written.read(folder, _START)
        mine = [batch for batch in found.batches.values() if batch.worker == 0]
        items = [digest for batch in sorted(mine, key=lambda batch: batch.number) for digest in batch.items]
        if (len(items) == before and items) or time.monotonic() > until:
            return items[seen:]
        time.sleep(_A_PAUSE_S)


def _here(reference: Reference, target: Target, batches: list[Any], num_workers: int) -> list[str]:
    if target.is_iterable:
        return reference.stream(_STREAM_ITEMS, worker=0, num_workers=num_workers)
    return reference.digests(batches[0])
