"""Whether the workers of a stream share its items out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text

if TYPE_CHECKING:
    from dsrface.doctor.proof.prove import Proof


_A_FEW = 0.02
_ALL = 0.9  # share of repeated items from which on every worker reads everything
_DROPPED = 0.1  # share of the items that may be left out for `drop_last`
_FIX = (
    "In __iter__ take every n-th item: info = torch.utils.data.get_worker_info(); "
    "itertools.islice(items, info.id, None, info.num_workers) when info is not None."
)


def _shards(proof: Proof) -> Finding | None:
    found, starts = proof.comparison, proof.starts
    if found is None or not proof.target.is_iterable:
        return None
    items = starts[0].evidence.num_items
    num_workers = len(starts[0].evidence.notes)
    data = {
        "items": items,
        "repeated": round(found.repeated, 3),
        "idle": found.idle,
        "items_alone": found.num_alone,
        "items_from_workers": found.num_shared,
        "settles": True,
    }
    if found.is_spent:
        return SHARDS.finding(
            "fail",
            "a second pass over the stream delivers nothing",
            matters="It is its own iterator and keeps its position: every epoch after the first is empty.",
            fix="Let __iter__ return a new iterator each time (write it as a generator function), and "
            "keep the position in there.",
            data={**data, "blocks": METHODS},
        )
    if found.num_alone and found.num_shared < (1 - _A_FEW) * found.num_alone:
        return SHARDS.finding(
            "fail",
            f"{num_workers} workers deliver {found.num_shared} of the {found.num_alone} items of the stream",
            matters="The others are in no worker's share: training never sees them.",
            fix=_FIX,
            data={**data, "blocks": METHODS},
        )
    if num_workers > 1 and found.num_alone and found.num_shared > (1 + _A_FEW) * found.num_alone:
        return SHARDS.finding(
            "fail",
            f"{num_workers} workers deliver {found.num_shared} items, without workers there are "
            f"{found.num_alone}",
            matters="Their shares overlap, or each reads the whole data; torch gives no warning without a "
            "length.",
            fix=_FIX,
            data=data,
        )
    if num_workers > 1 and found.num_alone and 0.25 <= found.repeated < _ALL:
        return SHARDS.finding(
            "fail",
            f"{found.repeated:.0%} of the first items come from two workers, and others from none",
            matters="Each worker takes its share of another order: an epoch has the right length and the "
            "wrong items.",
            fix="Shuffle before dividing with the same seed in all workers (one of your own and the epoch), "
            "or divide first and shuffle each share.",
            data={**data, "blocks": METHODS},
        )
    if num_workers > 1 and found.repeated >= 0.25:
        return SHARDS.finding(
            "fail",
            f"{found.repeated:.0%} of the first items come twice: every worker reads the whole data",
            matters=f"An epoch has {num_workers} times its items; torch gives no warning without a length.",
            fix=_FIX,
            data=data,
        )
    stated = proof.target.num_items()
    if found.num_alone and stated not in (None, found.num_alone):
        return SHARDS.finding(
            "warn",
            f"__len__ says {stated}, and the stream delivers {found.num_alone} items",
            where="dataset.__len__",
            matters="Schedulers, progress bars and len(loader) count by the length; torch warns of it.",
            fix="Let __len__ return the number of items that __iter__ yields, or leave it out.",
            data=data,
        )
    total, dropped = found.num_alone or stated or 0, proof.target.dropped
    if total and dropped:
        data["most_workers"] = most = max(1, int(_DROPPED * total / dropped))
        launched = proof.target.loader.num_workers
        if launched > most:
            return SHARDS.finding(
                "warn",
                f"drop_last may leave out {min(total, launched * dropped)} of {total} items with {launched} "
                "workers",
                matters="Each worker makes batches of its own share of the stream, and drops the rest of it.",
                fix=f"Use at most {count_text(most, 'worker')}, smaller batches, or drop_last=False.",
                data=data,
            )
    return SHARDS.finding("pass", f"{items} items from {num_workers} workers, none twice", data=data)


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
