"""Whether the workers of a stream share its items out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding

if TYPE_CHECKING:
    from dsrface.doctor.proof.prove import Proof


def _shards(proof: Proof) -> Finding | None:
    found, starts = proof.comparison, proof.starts
    if found is None or not proof.target.is_iterable:
        return None
    items = starts[0].evidence.num_items
    num_workers = len(starts[0].evidence.notes)
    data = {"items": items, "repeated": round(found.repeated, 3), "idle": found.idle, "settles": True}
    if num_workers > 1 and found.repeated >= 0.25:
        return SHARDS.finding(
            "fail",
            f"{found.repeated:.0%} of the first items come twice: every worker reads the whole data",
            matters=f"An epoch has {num_workers} times its items; torch gives no warning without a length.",
            fix="In __iter__ take every n-th item: info = torch.utils.data.get_worker_info(); "
            "itertools.islice(items, info.id, None, info.num_workers) when info is not None.",
            data=data,
        )
    return SHARDS.finding("pass", f"{items} items from {num_workers} workers, none twice", data=data)


SHARDS = Check(
    id="ds.iterable_shard",
    order=150,
    worst="fail",
    title="iterable data sets that every worker reads whole",
    why="Without sharding n workers deliver every item n times.",
    how="The first items from two real workers, compared.",
    fix="itertools.islice by get_worker_info().id and .num_workers in __iter__.",
    errors=(
        (
            "UserWarning: Length of IterableDataset was reported to be 4 (when accessing "
            "len(dataloader)), but 8 samples have been fetched."
        ),
    ),
    runs={"compared": lambda _, proof: _shards(proof)},
)
