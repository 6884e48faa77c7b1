"""Whether workers deliver the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding

if TYPE_CHECKING:
    from dsrface.doctor.proof.causes import Cause
    from dsrface.doctor.proof.compare import Comparison
    from dsrface.doctor.proof.prove import Proof

_SHOWN = 8


def _consistency(proof: Proof) -> Finding | None:
    from dsrface.doctor.proof.causes import cause_of_wrong_items

    found, starts, method = proof.comparison, proof.starts, proof.method
    if found is None:
        return None
    data = _data(found, len(starts))
    if found.gone:
        return _gone(found.gone, proof, data)
    moved = any(start.evidence.moved for start in starts)
    wrong = found.wrong or (found.once if moved else [])  # a race differs from one start to the next
    if wrong:
        handles = proof.survey.get("handles", ())
        cause = cause_of_wrong_items(found, starts, method, moved=moved, handles=handles)
        return _wrong(wrong, cause, proof, data)
    if found.lost:
        return _lost(found.lost, proof, data)
    if found.once:
        return _differed_once(found, data)
    if not found.compared:
        return CONSISTENCY.finding("info", "no item could be compared", data=data)
    status = "pass" if found.equal or found.rounded else "info"
    return CONSISTENCY.finding(status, _counts(found, len(starts)), data=data)


def _data(found: Comparison, num_starts: int) -> dict[str, Any]:
    return {
        "compared": found.compared,
        "equal": found.equal,
        "rounded": found.rounded,
        "opaque": found.opaque,
        "varying": found.varying,
        "differing": found.wrong[:50],
        "batches_sent": found.num_sent,
        "starts": num_starts,
    }


def _gone(error: str, proof: Proof, data: Mapping[str, Any]) -> Finding:
    return CONSISTENCY.finding(
        "fail",
        f"once the {proof.method} workers have ended, items no longer load here: {error}",
        where="\n".join(proof.survey.get("finalizers", ())),
        matters="The copy of the data set in a worker takes away what the original needs when it ends.",
        fix="Let __del__ and finalizers act only in the process that made the files: "
        "if os.getpid() == self.owner.",
        data={**data, "blocks": [proof.method]},
    )


def _lost(what: str, proof: Proof, data: Mapping[str, Any]) -> Finding:
    return CONSISTENCY.finding(
        "fail",
        f"{what} on the way from a worker",
        where=what.partition(" ")[0].rstrip(","),
        matters="torch rebuilds tensors and arrays from their data alone; with num_workers=0 it is there.",
        fix="Return it as an entry of its own, e.g. {'image': x, 'meta': meta}, or make it in the training "
        "loop.",
        data={**data, "blocks": [proof.method], "cause": "transport"},
    )


def _differed_once(found: Comparison, data: Mapping[str, Any]) -> Finding:
    return CONSISTENCY.finding(
        "warn",
        f"{len(found.once)} of {found.compared} items differed in one start of workers and not in the other",
        where=", ".join(map(str, found.once[:_SHOWN])),
        matters="It did not repeat, so it is not called wrong data; a rare race looks like this.",
        fix="Run the doctor again with a larger --budget: more items are compared then.",
        data=data,
    )


def _counts(found: Comparison, num_starts: int) -> str:
    parts = [f"{found.equal} items from workers equal those of num_workers=0"]
    if found.rounded:
        parts.append(f"{found.rounded} but for the last bits of their sums")
    if found.opaque:
        parts.append(f"{found.opaque} cannot be looked into, so nothing is known of them")
    if found.varying:
        parts.append(f"{found.varying} vary by themselves")
    how = f" ({num_starts} starts, generators set alike; {found.num_sent} batches as they were sent)"
    return "; ".join(parts) + (how if found.num_sent else "")


def _wrong(keys: Sequence[Any], cause: Cause, proof: Proof, data: Mapping[str, Any]) -> Finding:
    shown = ", ".join(f"dataset[{key}]" for key in keys[:_SHOWN])
    return CONSISTENCY.finding(
        "fail",
        f"{len(keys)} of {data['compared']} items from {proof.method} workers differ from those of "
        f"num_workers=0{': ' + cause.summary if cause.summary else ''}",
        where=f"{shown}\n{cause.where}".strip(),
        matters=f"Training would see wrong data, without any error. {cause.matters}",
        fix=cause.fix,
        data={**data, "blocks": [proof.method], "cause": cause.name},
    )


CONSISTENCY = Check(
    id="worker.consistency",
    order=40,
    worst="fail",
    title="whether workers deliver the same data",
    why=(
        "A shared file position, a module variable that a spawned worker does not have, or the order of a "
        "set gives other data without any error."
    ),
    how=(
        "Items from workers against those of this process, both with all generators put into the same "
        "state before each item, in two starts of workers; batches before and after they are sent."
    ),
    fix=(
        "By cause: files opened per process, variables set where the module is imported, sorted() for the "
        "order of a set, metadata returned as an entry of its own."
    ),
    runs={"compared": lambda _, proof: _consistency(proof)},
)
