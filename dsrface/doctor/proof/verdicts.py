"""What the proof shows, as checks: in words that name the cause and the way out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.kinds import ADVICE, CONTRACTS
from dsrface.doctor.proof.causes import Cause, cause_of_exception, cause_of_wrong_items
from dsrface.doctor.proof.handles import can_watch
from dsrface.doctor.proof.owners import owner_of_descriptor
from dsrface.doctor.report import Check
from dsrface.runtime.text import count_text
from dsrface.runtime.worker_death import explain

if TYPE_CHECKING:
    from dsrface.doctor.proof.compare import Comparison
    from dsrface.doctor.proof.draws import Draws
    from dsrface.doctor.proof.prove import Start
    from dsrface.doctor.targets import Target

_SHOWN = 8
_GENERATOR_FIX = (
    "Seed it in the worker, in worker_init_fn or at first use, from torch.initial_seed(), which differs "
    "between "
    "workers and epochs: np.random.seed(torch.initial_seed() % 2**32)."
)


def of_starts(starts: list[Start], target: Target, method: str, num_workers: int) -> list[Check]:
    """Return `worker.<method>`, and `ds.items` when an item raises here too."""
    id = f"worker.{method}"
    for start in starts:
        if start.evidence.error is not None:
            return _raised(start, target, method)
        if start.error is not None:
            return [_ended(start, method, num_workers)]
        if start.num_expected and len(start.received) < start.num_expected:
            return [_ended_early(start, method)]
    first = starts[0]
    loaded = sum(start.evidence.num_items for start in starts)
    text = (
        f"{num_workers} workers start by {method} in {first.startup_s:.1f} s and deliver "
        f"{sum(len(start.received) for start in starts)} batches of {count_text(loaded, 'item')}"
    )
    data = {
        "startup_s": round(first.startup_s, 3),
        "batches": sum(len(start.received) for start in starts),
        "items": loaded,
        "starts": len(starts),
        "num_workers": num_workers,
    }
    return [Check(id, "pass", text, data=data, duration_s=sum(start.duration_s for start in starts))]


def of_handles(starts: list[Start], target: Target, method: str, survey: Mapping[str, Any]) -> Check | None:
    """Return `ds.open_handles` as forked workers show it; None where the survey's word stands."""
    if method != "fork" or not can_watch():
        return None
    moved: dict[int, str] = {}
    for start in starts:
        moved.update(start.evidence.moved)
    items = sum(start.evidence.num_items for start in starts)
    if moved:
        return _shared(moved, target, items)
    if any(start.error is not None for start in starts) or not items:
        return None
    handles: Sequence[Mapping[str, Any]] = survey.get("handles", ())
    contracts = [handle for handle in handles if handle["kind"] in CONTRACTS]
    watched = max(start.evidence.num_watched for start in starts)
    data = {"members": list(handles), "settles": True, "items": items, "watched": watched}
    if contracts:
        first = contracts[0]
        return Check(
            "ds.open_handles",
            "warn",
            f"{first['path']} is an open {first['kind']} handle that forked workers inherit",
            where="\n".join(f"{h['path']} ({h.get('source', '')})" for h in contracts[:_SHOWN]),
            matters=f"{CONTRACTS[first['kind']]} What was read here was right, which proves nothing.",
            fix=ADVICE.get(first["kind"], ADVICE["file"]),
            data={**data, "blocks": ["fork"]},
        )
    if handles:
        names = ", ".join(f"{handle['path']} ({handle['kind']})" for handle in handles[:_SHOWN])
        return Check(
            "ds.open_handles",
            "info",
            f"forked workers inherit {names}; none moved its position while {count_text(items, 'item')} "
            "were read",
            where="\n".join(f"{h['path']} ({h.get('source', '')})" for h in handles[:_SHOWN]),
            matters="It reads without the shared position (memory map, pread, HDF5, LMDB), which is right "
            "here. "
            "HDF5 and LMDB do not promise it across a fork: opening at first use in the worker is safe by "
            "contract.",
            data=data,
        )
    summary = f"no file that was open before the fork moves while {count_text(items, 'item')} are read"
    return Check("ds.open_handles", "pass", summary, data=data)


def of_comparison(
    found: Comparison, starts: list[Start], target: Target, method: str, survey: Mapping[str, Any]
) -> list[Check]:
    """Return `worker.consistency`, for a stream also `ds.iterable_shard`."""
    checks = [_consistency(found, starts, method, survey)]
    if target.is_iterable:
        checks.append(_shards(found, starts))
    return checks


def of_draws(
    draws: Draws, found: Comparison, starts: list[Start], target: Target, survey: Mapping[str, Any]
) -> Check:
    """Return `ds.rng`: whether workers, or epochs, draw the same."""
    data = {"settles": True, "varying": draws.num_varying, **vars(draws)}
    if found.by_clock:
        return Check(
            "ds.rng",
            "warn",
            "items are drawn by the clock: read at one moment they are equal, a second later they are not",
            matters="Workers that load at the same moment draw the same numbers, and no run can be repeated.",
            fix=f"Draw from the worker's own generator instead of a time. {_GENERATOR_FIX}",
            data=data,
        )
    if survey.get("counters") and draws.num_varying:
        text = f"see ds.state: {survey['counters'][0]} is changed by every item"
        return Check("ds.rng", "skip", text, data=data)
    if draws.equal_workers or draws.equal_starts:
        return _repeats(draws, target, survey, data)
    if not draws.num_varying:
        text = "items do not depend on random numbers"
        if survey.get("rngs"):
            text = f"{survey['rngs'][0]} is not drawn from while items are loaded"
        return Check("ds.rng", "pass", f"{text} ({_natural(starts)} read twice)", data=data)
    text = f"random items differ between workers and between epochs ({_natural(starts)} read by every worker)"
    return Check("ds.rng", "pass", text, data=data)


def of_epochs(target: Target, setters: Sequence[str], *, is_stale: bool | None) -> Check:
    """Return `ds.epoch`: whether persistent workers see a new epoch."""
    name = setters[0]
    if not is_stale:
        text = "reaches persistent workers" if is_stale is False else "changes no item that was read"
        return Check("ds.epoch", "pass", f"{name} {text}", data={"settles": True, "setters": list(setters)})
    return Check(
        "ds.epoch",
        "fail" if target.persistent_workers else "warn",
        f"{name} does not reach workers that stay: with persistent_workers=True every epoch repeats the "
        "first",
        where=name,
        matters="Two passes by the same workers, with the epoch changed in between, gave the same items; "
        "this "
        "process gives others. A worker works on its own copy of the data set.",
        fix="Keep persistent_workers=False; or hold the epoch in shared memory: "
        "self.epoch = torch.zeros((), dtype=torch.int64).share_memory_(), set with fill_().",
        data={"settles": True, "setters": list(setters), "blocks_persistent": True},
    )


def _raised(start: Start, target: Target, method: str) -> list[Check]:
    """A worker's fetch raised: say whether the item loads here, and why it may not there."""
    error = start.evidence.error
    assert error is not None
    number = max(
        (n for n, batch in start.evidence.batches.items() if batch.worker == error["worker"]), default=0
    )
    keys = start.batches[number] if number < len(start.batches) else None
    moved = bool(start.evidence.moved)  # then what this process reads now proves nothing
    here = _raises_here(target, keys) if keys is not None and not moved else ""
    said = f"{error['type']}: {error['text']}".strip()
    data = {
        "error": said,
        "traceback": error["traceback"],
        "keys": repr(keys)[:200],
        "explained_as": "worker-exception",
    }
    if here and here.partition(":")[0] == error["type"]:
        fail = Check(
            "ds.items",
            "fail",
            f"an item raises, here as in a worker: {said.splitlines()[0]}",
            where=error["where"],
            matters="The loader ends there." if error["type"] != "StopIteration" else _SILENT_END,
            fix=f"Try dataset[{_first(keys)}] in a Python prompt; repair or leave out the sample.",
            data=data,
        )
        return [
            fail,
            Check(f"worker.{method}", "skip", "a worker met an item that raises: see ds.items", data=data),
        ]
    cause = cause_of_exception(error, method, num_moved=len(start.evidence.moved))
    summary = f"an item that loads here raises in a {method} worker: {said.splitlines()[0]}"
    if not error["travels"]:
        summary += "; and that exception cannot be pickled, so the loader waits for ever"
    data["blocks"] = [method]
    return [Check(f"worker.{method}", "fail", summary, error["where"], cause.matters, cause.fix, data)]


_SILENT_END = (
    "A StopIteration ends the epoch at that item without any error: the rest of the data is never seen."
)


def _raises_here(target: Target, keys: Any) -> str:
    from dsrface.doctor.proof.reference import Reference

    try:
        Reference(target).batch(keys)
    except BaseException as error:  # noqa: BLE001 - StopIteration too
        return f"{type(error).__name__}: {error}"
    return ""


def _first(keys: Any) -> str:
    return repr(keys[0] if isinstance(keys, (list, tuple)) and keys else keys)[:60]


def _ended(start: Start, method: str, num_workers: int) -> Check:
    """The loader raised without a word from a worker: it could not start, or died."""
    assert start.error is not None
    told = explain(start.error, num_workers=num_workers)
    data = {
        "error": f"{type(start.error).__name__}: {start.error}"[:4000],
        "explained_as": told.id,
        "blocks": [method],
    }
    fix = told.hint.partition(" `dsrface doctor`")[0]
    if told.id == "worker-unpicklable":
        fix = "See ds.unpicklable, ds.non_leaf and mp.main_guard, which name the members."
    elif "above" in fix:
        fix = "A static finding of this report may explain it; the worker's last lines are in --json."
    return Check(
        f"worker.{method}",
        "fail",
        told.message,
        where=told.where,
        fix=fix,
        data=data,
        duration_s=start.duration_s,
    )


def _ended_early(start: Start, method: str) -> Check:
    missing = start.num_expected - len(start.received)
    return Check(
        f"worker.{method}",
        "fail",
        f"the epoch ends after {len(start.received)} of {start.num_expected} batches, without an error",
        matters=f"{missing} batches are missing. {_SILENT_END}",
        fix="Raise IndexError or ValueError instead of StopIteration in __getitem__; guard next(iterator).",
        data={"blocks": [method]},
    )


def _shared(moved: Mapping[int, str], target: Target, items: int) -> Check:
    roots = {
        "dataset": target.dataset,
        "collate_fn": target.collate_fn,
        "worker_init_fn": target.worker_init_fn,
    }
    owners = [(fd, name, owner_of_descriptor(fd, roots)) for fd, name in moved.items()]
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
    return Check(
        "ds.open_handles",
        "fail",
        f"{what} is an open {kind} handle whose position all forked workers share, and they move it",
        where="\n".join(lines[:_SHOWN]),
        matters="A worker reads where another one has just sought: wrong items now and then, without any "
        "error. "
        f"Seen in a worker by watching the position while {count_text(items, 'item')} were read.",
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


def _consistency(found: Comparison, starts: list[Start], method: str, survey: Mapping[str, Any]) -> Check:
    id = "worker.consistency"
    data: dict[str, Any] = {
        "compared": found.compared,
        "equal": found.equal,
        "rounded": found.rounded,
        "varying": found.varying,
        "differing": found.wrong[:50],
        "batches_sent": found.num_sent,
        "starts": len(starts),
    }
    if found.gone:
        return Check(
            id,
            "fail",
            f"once the {method} workers have ended, items no longer load here: {found.gone}",
            where="\n".join(survey.get("finalizers", ())),
            matters="The copy of the data set in a worker takes away what the original needs when it ends.",
            fix="Let __del__ and finalizers act only in the process that made the files: "
            "if os.getpid() == self.owner.",
            data={**data, "blocks": [method]},
        )
    if found.wrong:
        moved = any(start.evidence.moved for start in starts)
        cause: Cause = cause_of_wrong_items(found, starts, method, moved=moved)
        shown = ", ".join(f"dataset[{key}]" for key in found.wrong[:_SHOWN])
        return Check(
            id,
            "fail",
            f"{len(found.wrong)} of {found.compared} items from {method} workers differ from those of "
            "num_workers=0"
            f"{': ' + cause.summary if cause.summary else ''}",
            where=f"{shown}\n{cause.where}".strip(),
            matters=f"Training would see wrong data, without any error. {cause.matters}",
            fix=cause.fix,
            data={**data, "blocks": [method], "cause": cause.name},
        )
    if found.lost:
        return Check(
            id,
            "fail",
            f"{found.lost} on the way from a worker",
            where=found.lost.partition(" ")[0].rstrip(","),
            matters="torch rebuilds tensors and arrays from their data alone; with num_workers=0 it is "
            "there.",
            fix="Return it as an entry of its own, e.g. {'image': x, 'meta': meta}, or make it in the "
            "training loop.",
            data={**data, "blocks": [method], "cause": "transport"},
        )
    parts = [f"{found.equal} items from workers equal those of num_workers=0"]
    if found.rounded:
        parts.append(f"{found.rounded} but for the last bits of their sums")
    if found.varying:
        parts.append(f"{found.varying} vary by themselves")
    if found.once:
        keys = ", ".join(map(str, found.once[:_SHOWN]))
        return Check(
            id,
            "warn",
            f"{len(found.once)} of {found.compared} items differed in one start of workers and not in the "
            "other",
            where=keys,
            matters="It did not repeat, so it is not called wrong data; a rare race looks like this.",
            fix="Run the doctor again with a larger --budget: more items are compared then.",
            data=data,
        )
    status = "pass" if found.equal or found.rounded else "info"
    how = f" ({len(starts)} starts, generators set alike; {found.num_sent} batches as they were sent)"
    if not found.compared:
        return Check(id, "info", "no item could be compared", data=data)
    return Check(id, status, "; ".join(parts) + (how if found.num_sent else ""), data=data)


def _shards(found: Comparison, starts: list[Start]) -> Check:
    items = starts[0].evidence.num_items
    num_workers = len(starts[0].evidence.notes)
    data = {"items": items, "repeated": round(found.repeated, 3), "idle": found.idle, "settles": True}
    if num_workers > 1 and found.repeated >= 0.25:
        return Check(
            "ds.iterable_shard",
            "fail",
            f"{found.repeated:.0%} of the first items come twice: every worker reads the whole data",
            matters=f"An epoch has {num_workers} times its items; torch gives no warning without a length.",
            fix="In __iter__ take every n-th item: info = torch.utils.data.get_worker_info(); "
            "itertools.islice(items, info.id, None, info.num_workers) when info is not None.",
            data=data,
        )
    return Check(
        "ds.iterable_shard", "pass", f"{items} items from {num_workers} workers, none twice", data=data
    )


def _repeats(draws: Draws, target: Target, survey: Mapping[str, Any], data: Mapping[str, Any]) -> Check:
    init = target.worker_init_fn
    name = getattr(init, "__name__", "worker_init_fn") if init is not None else ""
    seeds = draws.same_seeds if draws.equal_workers else draws.fixed_seeds
    paths = [*survey.get("rngs", ()), *survey.get("states", ())]
    if init is not None and seeds:
        who = f"worker_init_fn {name} puts the generator of {', '.join(seeds)} into the same state"
        code = getattr(init, "__code__", None)
        place = f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}" if code is not None else name
        where = f"worker_init_fn {name} ({place})"
    elif paths:
        who, where = f"{paths[0]} has the same state", "\n".join(paths[:_SHOWN])
    else:
        who, where = "the items draw the same numbers", ""
    when = "in every worker" if draws.equal_workers else "in every epoch"
    both = " and in every epoch" if draws.equal_workers and draws.equal_starts else ""
    return Check(
        "ds.rng",
        "warn",
        f"{who} {when}{both}",
        where=where,
        matters="Seen with real workers: worker 0 and 1 drew the same for the same items"
        if draws.equal_workers
        else "Seen with real workers: two starts drew the same for the same items: augmentation repeats.",
        fix=_GENERATOR_FIX,
        data=dict(data),
    )


def _natural(starts: list[Start]) -> str:
    batch = starts[0].evidence.batches.get(0)
    return count_text(len(batch.items) if batch is not None else 0, "item")
