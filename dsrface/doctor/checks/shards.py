"""Whether the workers of a stream share its items out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text

if TYPE_CHECKING:
    from dsrface.doctor.proof.compare import Comparison
    from dsrface.doctor.proof.prove import Proof
    from dsrface.doctor.targets import Target

_A_FEW = 0.02
_MANY = 0.25  # share of repeated items that chance does not explain
_SOME = 0.05  # the same where no two items are equal; a few may fill up the shorter shares
_ALL = 0.9  # share of repeated items from which on every worker reads everything
_DROPPED = 0.1  # share of the items that may be left out for `drop_last`
_FIX = (
    "In __iter__ take every n-th item: info = torch.utils.data.get_worker_info(); "
    "itertools.islice(items, info.id, None, info.num_workers) when info is not None."
)

_ORDER_FIX = (
    "Shuffle before dividing with the same seed in all workers (one of your own and the epoch), or divide "
    "first and shuffle each share."
)


def _shards(proof: Proof) -> Finding | None:
    found, starts = proof.comparison, proof.starts
    if found is None or not proof.target.is_iterable:
        return None
    items = starts[0].evidence.num_items
    num_workers = len(starts[0].evidence.notes)
    data: dict[str, Any] = {
        "items": items,
        "repeated": round(found.repeated, 3),
        "idle": found.idle,
        "items_alone": found.num_alone,
        "items_from_workers": found.num_shared,
        "settles": True,
    }
    return (
        _spent(found, data)
        or _wrong_number(found, num_workers, data)
        or _repeated(found, num_workers, data)
        or _wrong_length(found, proof.target, data)
        or _dropped(found, proof.target, data)
        or SHARDS.finding("pass", f"{items} items from {num_workers} workers, none twice", data=data)
    )


def _spent(found: Comparison, data: dict[str, Any]) -> Finding | None:
    if not found.is_spent:
        return None
    return SHARDS.finding(
        "fail",
        "a second pass over the stream delivers nothing",
        matters="It is its own iterator and keeps its position: every epoch after the first is empty.",
        fix="Let __iter__ return a new iterator each time (write it as a generator function), and keep the "
        "position in there.",
        data={**data, "blocks": METHODS},
    )


def _wrong_number(found: Comparison, num_workers: int, data: dict[str, Any]) -> Finding | None:
    """Compare how many items a stream that ends delivers, with workers and without."""
    alone, shared = found.num_alone, found.num_shared
    if shared is None:
        return None
    if alone and shared < (1 - _A_FEW) * alone:
        return SHARDS.finding(
            "fail",
            f"{num_workers} workers deliver {shared} of the {alone} items of the stream",
            matters="The others are in no worker's share: training never sees them.",
            fix=_FIX,
            data={**data, "blocks": METHODS},
        )
    if found.num_missing:
        return SHARDS.finding(
            "warn",
            f"{num_workers} workers deliver {shared} of the {alone} items of the stream",
            matters="What is missing is in no worker's share: a bound is off by one, or a rest is left out.",
            fix=_FIX,
            data=data,
        )
    if alone and num_workers > 1 and shared > (1 + _A_FEW) * alone:
        return SHARDS.finding(
            "fail",
            f"{num_workers} workers deliver {shared} items, without workers there are {alone}",
            matters="Their shares overlap, or each reads the whole data; torch gives no warning without a "
            "length.",
            fix=_FIX,
            data=data,
        )
    return None


def _repeated(found: Comparison, num_workers: int, data: dict[str, Any]) -> Finding | None:
    """Look for items that come from two workers."""
    if num_workers < 2 or found.repeated < (_SOME if found.is_unique else _MANY):
        return None
    if not found.num_alone and found.repeated < _MANY:
        return SHARDS.finding(
            "info",
            f"{found.repeated:.0%} of the first items come from two workers; its end was not reached",
            matters="An endless stream that each worker shuffles does so; in one that ends, shares overlap.",
            fix=_ORDER_FIX,
            data=data,
        )
    if found.num_alone and found.repeated < _ALL:
        return SHARDS.finding(
            "fail",
            f"{found.repeated:.0%} of the first items come from two workers",
            matters="Each worker takes its share of another order, so that other items come from none; or it "
            "reads the whole data.",
            fix=_ORDER_FIX,
            data={**data, "blocks": METHODS},
        )
    return SHARDS.finding(
        "fail",
        f"{found.repeated:.0%} of the first items come twice: every worker reads the whole data",
        matters=f"An epoch has {num_workers} times its items; torch gives no warning without a length.",
        fix=_FIX,
        data=data,
    )


def _wrong_length(found: Comparison, target: Target, data: dict[str, Any]) -> Finding | None:
    stated = target.num_items()
    if not found.num_alone or stated in (None, found.num_alone):
        return None
    return SHARDS.finding(
        "warn",
        f"__len__ says {stated}, and the stream delivers {found.num_alone} items",
        where="dataset.__len__",
        matters="Schedulers, progress bars and len(loader) count by the length; torch warns of it.",
        fix="Let __len__ return the number of items that __iter__ yields, or leave it out.",
        data=data,
    )


def _dropped(found: Comparison, target: Target, data: dict[str, Any]) -> Finding | None:
    """Look at what `drop_last` leaves out of the shares; note the most workers for which that is little."""
    total, dropped = found.num_alone or target.num_items() or 0, target.dropped
    if not total or not dropped:
        return None
    data["most_workers"] = most = max(1, int(_DROPPED * total / dropped))
    launched = target.loader.num_workers
    if launched <= most:
        return None
    return SHARDS.finding(
        "warn",
        f"drop_last may leave out {min(total, launched * dropped)} of {total} items with {launched} workers",
        matters="Each worker makes batches of its own share of the stream, and drops the rest of it.",
        fix=f"Use at most {count_text(most, 'worker')}, smaller batches, or drop_last=False.",
        data=data,
    )


SHARDS = Check(
    id="ds.iterable_shard",
    order=150,
    worst="fail",
    title="iterable data sets that every worker reads whole",
    why="Without sharding n workers deliver every item n times.",
    how=(
        "Real workers: items that come twice, and for a stream that ends the number of items with and "
        "without workers."
    ),
    fix="itertools.islice by get_worker_info().id and .num_workers in __iter__.",
    errors=(
        (
            "UserWarning: Length of IterableDataset was reported to be 4 (when accessing "
            "len(dataloader)), but 8 samples have been fetched."
        ),
    ),
    runs={"compared": lambda _, proof: _shards(proof)},
)
