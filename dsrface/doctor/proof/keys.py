"""Which keys are loaded for the proof: the loader's own, first ones, consecutive runs and spread ones."""

from __future__ import annotations

import random
from typing import Any

from dsrface.doctor.sizing.measure import spread_indices
from dsrface.doctor.targets import Target

_SMALL_BATCH = 8
_MOST_KEYS = 1024
_MOST_BATCHES = 4096
_NATURAL_KEYS = 4


def proof_batches(target: Target, *, num_workers: int, item_s: float, load_s: float) -> list[Any]:
    """Return what to hand to the workers, as a DataLoader would: lists of keys, or single keys.

    Small batches, so that neighbours go to different workers: that is where shared state shows. Half of the
    keys come in consecutive runs, half are spread over the data set.

    Args:
        target: Map-style.
        num_workers: Workers that will share them.
        item_s: Seconds an item takes.
        load_s: Seconds that loading may take: each key twice in workers and once here.
    """
    each = max(item_s, 2e-4) * (2 / num_workers + 1)
    wanted = max(num_workers, min(_MOST_KEYS, int(load_s / each)))
    if target.has_own_batches:
        return _own_batches(target, wanted)
    keys = _keys(target, wanted)
    if not target.is_batched:
        return keys
    size = max(1, min(_SMALL_BATCH, len(keys) // (2 * num_workers)))
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def natural_batch(target: Target, batches: list[Any]) -> Any:
    """Return the batch that every worker loads first, with its generators as they are."""
    first = batches[0]
    return first if target.has_own_batches or not target.is_batched else first[:_NATURAL_KEYS]


def _own_batches(target: Target, wanted: int) -> list[Any]:
    """Return batches of the loader's own batch sampler: the first ones and spread ones."""
    own = target.own_batches(_MOST_BATCHES)
    size = max(1, len(own[0]) if own and hasattr(own[0], "__len__") else 1)
    count = max(2, wanted // size)
    head = own[: (count + 1) // 2]
    rest = own[len(head) :]
    return head + [rest[at] for at in spread_indices(len(rest), count - len(head), seed=2)]


def _keys(target: Target, wanted: int) -> list[Any]:
    known = target.first_keys(_MOST_BATCHES)
    if not known:
        return []
    if target.sampler is None:  # indices of the whole data set, in order
        length = target.num_items() or 0
        start = random.Random(3).randrange(max(1, length - wanted // 4))
        chosen = [
            *range(min(length, wanted // 4 + 1)),
            *range(start, min(length, start + wanted // 4)),
            *spread_indices(length, wanted // 2, seed=2),
        ]
    else:  # the sampler's own order, then its keys in runs where they can be sorted
        first = known[: max(1, wanted // 2)]
        chosen = [
            *first,
            *_sorted(known)[: wanted // 4],
            *(known[at] for at in spread_indices(len(known), wanted // 4)),
        ]
    while len(chosen) < min(wanted, 2 * _SMALL_BATCH):  # a few items are read again and again
        chosen = chosen * 2
    return chosen[: max(wanted, 1)]


def _sorted(keys: list[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except (TypeError, ValueError, RuntimeError):
        return list(keys)
