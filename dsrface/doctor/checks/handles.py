"""Files, archives, databases and connections that are open before workers start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.checks.members import joined, more, outermost, places, told_by, without
from dsrface.doctor.report import Finding
from dsrface.doctor.trace.kinds import ADVICE, CONTRACTS
from dsrface.runtime.text import count_text

if TYPE_CHECKING:
    from dsrface.doctor.proof.evidence import Owner
    from dsrface.doctor.proof.prove import Proof
    from dsrface.doctor.targets import Target
    from dsrface.doctor.trace.members import Trace

_SHOWN = 8


def _handles(trace: Trace, methods: Sequence[str]) -> Finding:
    members = [member for member in trace.handles if not member.is_hidden or "fork" in methods]
    members = outermost(members, members)
    matters = "Every worker gets the same connection."
    if "fork" in methods:
        shares = "Forked workers share one file position: they read each other's bytes, without any error."
        known = CONTRACTS.get(members[0].kind, shares) if members else shares
        matters = f"{known} Other start methods cannot send it."
    else:
        sent = without(members, outermost(trace.unpicklable, trace.handles))
        if members and not sent:
            return told_by("ds.unpicklable", HANDLES, members)
        members = sent
    data = {"members": [member.to_dict() for member in members]}
    advice: dict[str, list[str]] = {}
    for member in members[:_SHOWN]:
        advice.setdefault(ADVICE.get(member.kind, ADVICE["file"]), []).append(member.path)
    if not members:
        return HANDLES.finding("pass", "no open file, archive or database", data=data)
    first = members[0]
    return HANDLES.finding(
        "warn",
        f"{first.path} is an open {first.kind} handle{more(members)}",
        where=places(members),
        matters=matters,
        fix=joined(advice),
        data=data,
    )


def _as_workers_show(proof: Proof) -> Finding | None:
    """Say what forked workers do to the handles; None where the word of the members stands."""
    from dsrface.doctor.proof.handles import can_watch

    starts, survey = proof.starts, proof.survey
    if proof.method != "fork" or not can_watch():
        return None
    moved: dict[int, str] = {}
    for start in starts:
        moved.update(start.evidence.moved)
    items = sum(start.evidence.num_items for start in starts)
    if moved:
        return shared(moved, _owners(moved, proof.target), items)
    if any(start.error is not None for start in starts) or not items:
        return None
    handles: Sequence[Mapping[str, Any]] = survey.get("handles", ())
    contracts = [handle for handle in handles if handle["kind"] in CONTRACTS]
    watched = max(start.evidence.num_watched for start in starts)
    data = {"members": list(handles), "settles": True, "items": items, "watched": watched}
    if contracts:
        first = contracts[0]
        return HANDLES.finding(
            "warn",
            f"{first['path']} is an open {first['kind']} handle that forked workers inherit",
            where="\n".join(f"{h['path']} ({h.get('source', '')})" for h in contracts[:_SHOWN]),
            matters=f"{CONTRACTS[first['kind']]} Right items in a short run do not prove it safe.",
            fix=ADVICE.get(first["kind"], ADVICE["file"]),
            data={**data, "blocks": ["fork"]},
        )
    if handles:
        names = ", ".join(f"{handle['path']} ({handle['kind']})" for handle in handles[:_SHOWN])
        return HANDLES.finding(
            "info",
            f"forked workers inherit {names}; none moved its position while {count_text(items, 'item')} "
            "were read",
            where="\n".join(f"{h['path']} ({h.get('source', '')})" for h in handles[:_SHOWN]),
            matters="It reads without the shared position (memory map, pread, HDF5, LMDB), which is right "
            "here. HDF5 and LMDB do not promise it across a fork: opening at first use in the worker is "
            "safe by contract.",
            data=data,
        )
    summary = f"no file that was open before the fork moves while {count_text(items, 'item')} are read"
    return HANDLES.finding("pass", summary, data=data)


def _owners(moved: Mapping[int, str], target: Target) -> dict[int, Owner | None]:
    from dsrface.doctor.proof.owners import owner_of_descriptor

    roots = {
        "dataset": target.dataset,
        "collate_fn": target.collate_fn,
        "worker_init_fn": target.worker_init_fn,
    }
    return {fd: owner_of_descriptor(fd, roots) for fd in moved}


def shared(moved: Mapping[int, str], holders: Mapping[int, Owner | None], items: int) -> Finding:
    """Return the finding on descriptors whose position forked workers share and move.

    Args:
        moved: Descriptor to the name of its file or connection.
        holders: Who holds each.
        items: That were read meanwhile.
    """
    owners = [(fd, name, holders.get(fd)) for fd, name in moved.items()]
    lines, advice = [], []
    for fd, name, owner in owners:
        holder = (
            owner.path if owner is not None else f"descriptor {fd}, held by no Python object (a C library?)"
        )
        source = f" ({owner.source})" if owner is not None and owner.source else ""
        lines.append(f"{holder}{source}: {name}")
        advice.append(ADVICE.get(owner.kind if owner else "file", ADVICE["file"]))
    first = owners[0][2]
    what = first.path if first is not None else owners[0][1]
    kind = first.kind if first is not None else "file"
    return HANDLES.finding(
        "fail",
        f"{what} is an open {kind} handle whose position all forked workers share, and they move it",
        where="\n".join(lines[:_SHOWN]),
        matters="A worker reads where another one has just sought: wrong items now and then, without any "
        f"error. Seen in a worker by watching the position while {count_text(items, 'item')} were read.",
        fix="\n".join(dict.fromkeys(advice)),
        data={
            "settles": True,
            "blocks": ["fork"],
            "members": [
                {"path": owner.path if owner else "", "source": owner.source if owner else "", "file": name}
                for _, name, owner in owners
            ],
        },
    )


HANDLES = Check(
    id="ds.open_handles",
    order=70,
    worst="fail",
    title="files, archives and databases opened before the workers start",
    why=(
        "Forked workers share one file position and silently read each other's bytes: wrong data, no error."
    ),
    how=(
        "Under fork a worker watches the position of every descriptor that was open before it started "
        "(Linux); known types of handles among the members elsewhere, also those that __getstate__ drops. "
        "Under spawn and forkserver they are reported by ds.unpicklable."
    ),
    fix="Keep the path and open at first use in __getitem__, keyed by os.getpid().",
    errors=(
        "OSError: Can't read data (wrong B-tree signature)",
        "zipfile.BadZipFile: Bad magic number for file header",
        "zlib.error: Error -3 while decompressing data",
    ),
    runs={
        "members": lambda _, subject: _handles(subject.trace, subject.methods),
        "starts": lambda _, proof: _as_workers_show(proof),
    },
)
