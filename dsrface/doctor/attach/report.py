"""What `--attach` found: each loader that waits, for which worker, and what everybody uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface.doctor.attach.causes import Doing, doing
from dsrface.doctor.attach.look import Seen
from dsrface.runtime.text import count_text, size_text

_HARMLESS = {"idle", "computing", "sleep"}
_NEARLY_FULL = 0.95


@dataclass(frozen=True)
class Worker:
    """A worker of a DataLoader.

    Args:
        seen: Its process.
        number: Its id in its loader; None when it cannot be seen.
        batch: The batch it works on, counted in its epoch; None when it has none.
        keys: The indices of that batch, as text.
        place: Its innermost line in the user's files; may be empty.
        doing: What it does.
    """

    seen: Seen
    number: int | None
    batch: int | None
    keys: str
    place: str
    doing: Doing

    @property
    def name(self) -> str:
        """`worker 1 (pid 4242)`."""
        return f"{'a worker' if self.number is None else f'worker {self.number}'} (pid {self.seen.pid})"

    def sentence(self) -> str:
        """Return what it does, where, and on what."""
        place = f" at {self.place}" if self.place and self.doing.kind not in ("idle", "dead") else ""
        keys = f", on items {self.keys}" if self.keys else ""
        return f"{self.name}: {self.doing.text}{place}{keys}"


@dataclass(frozen=True)
class Loading:
    """A process and the workers of its DataLoaders.

    Args:
        seen: The process that trains.
        workers: Of its loaders.
        is_waiting: It waits for a batch.
        place: Its innermost line in the user's files; may be empty.
        doing: What it does when it does not wait for a batch.
    """

    seen: Seen
    workers: tuple[Worker, ...]
    is_waiting: bool
    place: str
    doing: Doing

    @property
    def culprit(self) -> Worker | None:
        """The worker that holds everything up: a dead one, else the one with the oldest batch."""
        dead = [worker for worker in self.workers if worker.doing.kind == "dead"]
        at_work = [worker for worker in self.workers if worker.doing.kind != "idle"]
        if dead:
            return dead[0]
        return min(at_work, key=_age, default=None) if self.is_waiting else None


@dataclass(frozen=True)
class AttachReport:
    """The whole job.

    Args:
        pid: What was attached to.
        loadings: Processes with workers, else the process itself.
        has_stacks: py-spy was there.
        shm_used: Share of /dev/shm that is in use; None where there is none.
        duration_s: Seconds it took.
    """

    pid: int
    loadings: tuple[Loading, ...]
    has_stacks: bool
    shm_used: float | None
    duration_s: float

    @property
    def exit_code(self) -> int:
        """1 when a loader waits for a worker that is dead or blocked."""
        culprits = [loading.culprit for loading in self.loadings]
        return int(any(c is not None and c.doing.kind not in _HARMLESS for c in culprits))

    def verdict_line(self) -> str:
        """Return the answer in one line."""
        for loading in self.loadings:
            culprit = loading.culprit
            if culprit is not None:
                where = f"the DataLoader at {loading.place}" if loading.place else "a DataLoader"
                return f"{where} waits for {culprit.sentence()}"
        first = self.loadings[0]
        place = f" at {first.place}" if first.place else ""
        if first.is_waiting:
            return f"pid {first.seen.pid} waits for a batch{place}, and no worker has one to load"
        return f"pid {first.seen.pid} waits for no worker: {first.doing.text}{place}"

    @property
    def fix(self) -> str:
        """What to do about it; may be empty."""
        culprit = next((c for loading in self.loadings if (c := loading.culprit) is not None), None)
        return culprit.doing.fix if culprit is not None else ""

    def lines(self) -> Iterator[str]:
        """Yield the report as text, without its verdict."""
        for loading in self.loadings:
            what = "waits for a batch" if loading.is_waiting else loading.doing.text
            yield f"pid {loading.seen.pid}: {what}" + (f" at {loading.place}" if loading.place else "")
            yield f"    {_usage(loading.seen)}"
            for worker in loading.workers:
                yield f"  {worker.sentence()}"
                if worker.doing.kind != "dead":
                    yield f"    {_usage(worker.seen)}"
        if self.shm_used is not None and self.shm_used > _NEARLY_FULL:
            share = f"{100 * self.shm_used:.0f} %"
            yield f"shared memory is full ({share} of /dev/shm): workers cannot hand over their batches"
        if not self.has_stacks:
            yield "py-spy is not installed: no lines and no items (pip install py-spy)"
        if self.fix:
            yield f"fix: {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        return {
            "schema_version": 1,
            "tool": "dsrface doctor --attach",
            "pid": self.pid,
            "verdict": self.verdict_line(),
            "exit_code": self.exit_code,
            "fix": self.fix,
            "shm_used": self.shm_used,
            "has_stacks": self.has_stacks,
            "duration_s": round(self.duration_s, 3),
            "processes": [_loading_dict(loading) for loading in self.loadings],
        }


def build(pid: int, found: dict[int, Seen], *, has_stacks: bool, duration_s: float) -> AttachReport:
    """Return the report of the processes seen.

    Args:
        pid: What was attached to.
        found: It and all below it, by id.
        has_stacks: py-spy was there.
        duration_s: Seconds it took to look.
    """
    loadings = []
    for seen in (process for process in found.values() if not process.is_helper):
        workers = [
            _worker(part) for part in _below(seen, found) if _is_worker(part, seen, has_stacks=has_stacks)
        ]
        is_waiting = (
            seen.stack.waits_for_batch if seen.stack is not None else bool(workers) and not seen.is_busy
        )
        if (workers and not _is_worker(seen, found.get(seen.parent), has_stacks=has_stacks)) or is_waiting:
            ordered = sorted(workers, key=lambda worker: (worker.number or 0, worker.seen.pid))
            loadings.append(Loading(seen, tuple(ordered), is_waiting, _place(seen), doing(seen)))
    if not loadings:
        root = found[pid]
        loadings.append(Loading(root, (), False, _place(root), doing(root)))
    return AttachReport(pid, tuple(loadings), has_stacks, _shm_used(), duration_s)


def _below(seen: Seen, found: dict[int, Seen]) -> Iterator[Seen]:
    """Yield the children of a process; those of its fork server are its own."""
    for pid in seen.children:
        if found[pid].is_helper:
            yield from _below(found[pid], found)
        else:
            yield found[pid]


def _is_worker(seen: Seen, parent: Seen | None, *, has_stacks: bool) -> bool:
    if seen.is_helper or parent is None:
        return False
    if seen.stack is not None:
        return seen.stack.worker_loop is not None
    is_waited_for = parent.stack is not None and parent.stack.waits_for_batch
    return seen.is_dead and is_waited_for if has_stacks else True


def _worker(seen: Seen) -> Worker:
    loop = seen.stack.worker_loop if seen.stack is not None else None
    values = loop.values if loop is not None else {}
    act = doing(seen)
    is_idle = act.kind == "idle"
    return Worker(
        seen,
        _number(values.get("worker_id")),
        None if is_idle else _number(values.get("idx")),
        "" if is_idle else values.get("index", ""),
        _place(seen),
        act,
    )


def _place(seen: Seen) -> str:
    frame = seen.stack.users if seen.stack is not None else None
    return frame.place if frame is not None else ""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _age(worker: Worker) -> tuple[bool, int]:
    """Sort key: batches are handed out in turn, so that the loader waits for the lowest number."""
    return worker.batch is None, worker.batch or 0


def _shm_used() -> float | None:
    if not Path("/dev/shm").is_dir():  # noqa: S108 - where torch puts shared memory
        return None
    stat = os.statvfs("/dev/shm")  # noqa: S108
    return 1 - stat.f_bavail / stat.f_blocks if stat.f_blocks else None


def _usage(seen: Seen) -> str:
    growth = f", growing {size_text(int(seen.growth_bytes_s))}/s" if seen.growth_bytes_s > 1 << 20 else ""
    files = ""
    if seen.open_files is not None:
        most = f" of {seen.open_files_limit}" if seen.open_files_limit is not None else ""
        files = f", {count_text(seen.open_files, 'open file')}{most}"
    return f"{size_text(seen.memory_bytes)} of memory{growth}{files}"


def _loading_dict(loading: Loading) -> dict[str, Any]:
    return {
        **_seen_dict(loading.seen),
        "waits_for_batch": loading.is_waiting,
        "place": loading.place,
        "doing": loading.doing.kind,
        "workers": [
            {
                **_seen_dict(worker.seen),
                "number": worker.number,
                "batch": worker.batch,
                "items": worker.keys,
                "place": worker.place,
                "doing": worker.doing.kind,
                "text": worker.doing.text,
            }
            for worker in loading.workers
        ],
    }


def _seen_dict(seen: Seen) -> dict[str, Any]:
    return {
        "pid": seen.pid,
        "state": seen.state,
        "busy": round(seen.busy, 3),
        "call": str(seen.call) if seen.call is not None else "",
        "memory_bytes": seen.memory_bytes,
        "growth_bytes_s": round(seen.growth_bytes_s),
        "open_files": seen.open_files,
        "open_files_limit": seen.open_files_limit,
    }
