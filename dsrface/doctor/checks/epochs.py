"""Whether workers that stay see a new epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.start_methods import METHODS

if TYPE_CHECKING:
    from dsrface.doctor.proof.prove import Proof


def _as_workers_see(proof: Proof) -> Finding | None:
    setters, is_stale = proof.survey["epoch_setters"], proof.epoch_is_stale
    name, keeps = setters[0], proof.target.persistent_workers
    place = proof.survey["changed_in_loops"].get(name, "")
    where = f"{name} (changed in {place})" if place else name
    will_change = bool(place) or "epoch" in name  # what is set otherwise may be set once, before the run
    data = {"settles": True, "setters": list(setters)}
    if is_stale is None:
        return EPOCH.finding(
            "warn" if keeps and will_change else "info",
            f"{name} may change between epochs, and workers that stay were not seen to get it",
            where=where,
            fix="Keep persistent_workers=False while it changes between epochs; or hold it in shared memory.",
            data={**data, "blocks_persistent": True},
        )
    if not is_stale:
        return EPOCH.finding("pass", f"{name} reaches persistent workers, or changes no item", data=data)
    if name in proof.survey["changed_per_batch"]:
        is_certain = name.partition(".")[0] not in proof.target.roots  # a module's variable
        return EPOCH.finding(
            "fail" if is_certain else "warn",
            f"{name} changes from batch to batch, and workers have it as it was when they started",
            where=where,
            matters="Items depend on it: those of workers differ from those of a plain loop.",
            fix="Apply it in the training loop; or hold it in shared memory, and bear that batches that were "
            "loaded ahead have an earlier value: torch.zeros((), dtype=torch.int64).share_memory_(), changed "
            "with add_().",
            data={**data, "blocks_persistent": True, "blocks": list(METHODS)},
        )
    gravity = ("info", "warn", "fail")[keeps + will_change]
    return EPOCH.finding(
        gravity,
        f"{name} does not reach workers that stay: with persistent_workers=True every epoch repeats the "
        "first",
        where=where,
        matters="Two passes by the same workers, with the epoch changed in between, gave the same items; "
        "this process gives others. A worker works on its own copy of the data set.",
        fix="Keep persistent_workers=False; or hold the epoch in shared memory: "
        "self.epoch = torch.zeros((), dtype=torch.int64).share_memory_(), set with fill_().",
        data={**data, "blocks_persistent": True},
    )


EPOCH = Check(
    id="ds.epoch",
    order=130,
    worst="fail",
    title="epochs and workers that stay",
    why=(
        "persistent_workers=True keeps the workers' copies of the data set: set_epoch() in the main "
        "program does not reach them, and every epoch repeats the first."
    ),
    how="Two passes by the same real workers with the epoch changed in between, against this process.",
    fix="persistent_workers=False, or hold the epoch in a shared tensor.",
    runs={"epochs": lambda _, proof: _as_workers_see(proof)},
)
