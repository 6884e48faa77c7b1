"""Memory, shared memory and open files against what a loader of so many workers needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.doctor.sizing.limits import (
    files_needed,
    memory_needed_bytes,
    most_workers,
    open_files_limit,
    shm_needed_bytes,
)
from dsrface.doctor.survey.facts import SurveyFacts
from dsrface.runtime.resources import Memory, memory_limit, shm_free_bytes
from dsrface.runtime.text import count_text, size_text

if TYPE_CHECKING:
    from dsrface.doctor.survey.loading import Loading

_FEW_FILES = 4096
_USUAL_LIMIT = 65535  # of open files, that ulimit -n may set
_SMALL_SHM = 1 << 30
_WARN_SHARE = 0.8
_A_LEAK_BYTES = 64 << 10
_LEAST_LEAK_BYTES = 4 << 20
_SHOWN = 6


@dataclass(frozen=True)
class Launch:
    """What the limits are held against.

    Args:
        facts: Of the data set.
        num_workers: Workers of one process.
        world_size: Processes that load data here.
    """

    facts: SurveyFacts
    num_workers: int
    world_size: int

    @property
    def everyone(self) -> int:
        """Workers of all processes."""
        return self.num_workers * self.world_size


def memory_check(memory: Memory, facts: SurveyFacts | None, num_workers: int) -> Finding:
    """Check free memory against workers and the batches in flight."""
    have = memory.available_bytes
    free = f"{size_text(have)} free" + ("" if memory.limit_bytes is None else f" ({memory.reason})")
    data: dict[str, Any] = {"available_bytes": have, "limit_bytes": memory.limit_bytes}
    if facts is None or not num_workers:
        return MEMORY.finding("warn" if have < 2 << 30 else "pass", free, data=data)
    worker = facts.worker_bytes

    def needed(number: int) -> int:
        return memory_needed_bytes(number, worker_bytes=worker, batch_bytes=facts.batch_bytes)

    need = needed(num_workers)
    data |= {"needed_bytes": need, "worker_bytes": worker, "num_workers": num_workers}
    workers = count_text(num_workers, "worker")
    summary = f"{free}; {workers} of {size_text(worker)} and their batches need {size_text(need)}"
    status = _against(need, have)
    if status == "pass":
        return MEMORY.finding(status, summary, data=data)
    return MEMORY.finding(
        status,
        summary,
        matters="The kernel kills a worker: 'DataLoader worker (pid N) is killed by signal: Killed'.",
        fix=f"Use at most {count_text(most_workers(needed, _WARN_SHARE * have), 'worker')}, "
        "or a smaller batch.",
        data=data,
    )


def shm_check(free: int | None, facts: SurveyFacts | None, num_workers: int) -> Finding:
    """Check /dev/shm against (workers x prefetch + 3) batches."""
    if free is None:
        return SHARED_MEMORY.finding("skip", "this system has no /dev/shm")
    data: dict[str, Any] = {"free_bytes": free}
    matters = "When it is full a worker dies: 'Bus error' or 'unable to allocate shared memory'."
    docker = "docker run --shm-size={}g (or --ipc=host); Kubernetes: an emptyDir of medium Memory on /dev/shm"
    if facts is None or not facts.batch_bytes or not num_workers:
        if free >= _SMALL_SHM:
            return SHARED_MEMORY.finding("pass", f"{size_text(free)} free in /dev/shm", data=data)
        return SHARED_MEMORY.finding(
            "warn",
            f"only {size_text(free)} free in /dev/shm, through which workers hand over their batches",
            matters=matters,
            fix=docker.format(8),
            data=data,
        )
    batch = facts.batch_bytes
    need = shm_needed_bytes(num_workers, batch_bytes=batch)
    data |= {"needed_bytes": need, "batch_bytes": batch, "num_workers": num_workers}
    summary = (
        f"{size_text(free)} free in /dev/shm, this loader needs {size_text(need)} = "
        f"({num_workers} x 2 + 3) x {size_text(batch)}"
    )
    status = _against(need, free)
    if status == "pass":
        return SHARED_MEMORY.finding(status, summary, data=data)
    return SHARED_MEMORY.finding(
        status,
        summary,
        matters=matters,
        fix=f"{docker.format(max(1, -(-2 * need // 2**30)))}; or fewer workers.",
        data=data,
    )


def files_check(limit: int | None, facts: SurveyFacts | None, num_workers: int) -> Finding:
    """Check the limit of open files: each tensor of each batch in flight holds one."""
    if limit is None:
        return OPEN_FILES.finding("pass", "no limit of open files")
    need, why = _FEW_FILES, "many loaders need more"
    if facts is not None:
        need = files_needed(max(1, num_workers), tensors_per_batch=facts.tensors_per_batch)
        why = f"this loader needs {need}"
    data = {"limit": limit, "needed": need}
    if limit >= need:
        return OPEN_FILES.finding("pass", f"{limit} open files allowed", data=data)
    return OPEN_FILES.finding(
        "warn",
        f"at most {limit} open files; {why}",
        matters="'Too many open files', or 'received 0 items of ancdata', once batches are kept.",
        fix=_fewer_files(need),
        data=data,
    )


def _fewer_files(need: int) -> str:
    if need > _USUAL_LIMIT:
        return (
            "Return one tensor where there are many: torch.stack or torch.cat in the item. A limit of "
            f"{need} is beyond the usual {_USUAL_LIMIT} that ulimit -n can set."
        )
    return f"ulimit -n {_USUAL_LIMIT} in the shell that starts the job; clone batches that you keep."


def _files_left(items: Loading) -> Finding | None:
    passes, limit, num_items = items.passes, open_files_limit(), items.target.num_keys()
    if passes is None:
        return None
    each = passes.leaked("descriptors")
    if each < 0.5:
        return None
    room = max(0, (limit or 1 << 30) - passes.once.descriptors)
    until = int(room / each)
    epochs = f", {until / num_items:.1f} epochs of one process" if num_items else ""
    keepers = passes.keepers
    return OPEN_FILES.finding(
        "warn",
        f"every item leaves {each:.0f} open file behind: the limit of {limit} is reached after {until} "
        f"items{epochs}",
        where="\n".join(keepers[:_SHOWN]),
        matters="OSError: [Errno 24] Too many open files, in the middle of a long run.",
        fix="Close what an item opens: `with open(...) as file`, `with Image.open(...) as image`.",
        data={"per_item": each, "limit": limit, "until_items": until},
    )


def _memory_left(items: Loading) -> Finding | None:
    passes, memory_bytes, num_items = items.passes, items.memory_bytes, items.target.num_keys()
    if passes is None:
        return None
    each = passes.leaked("memory_bytes")
    if each < _A_LEAK_BYTES or each * passes.num_items < _LEAST_LEAK_BYTES:
        return None
    until = int(memory_bytes / each)
    keepers = passes.keepers
    epoch = f", {size_text(each * num_items)} an epoch" if num_items else ""
    return MEMORY.finding(
        "warn",
        f"every item leaves {size_text(each)} behind{epoch}: {size_text(memory_bytes)} of memory end after "
        f"{until} items",
        where="\n".join(keepers[:_SHOWN]),
        matters=f"{max(1, items.num_workers)} workers share that memory; the kernel kills one: "
        "'DataLoader worker (pid N) is killed by signal: Killed'.",
        fix="Do not keep what __getitem__ has loaded (lists, caches without bound, figures, sessions).",
        data={"per_item": each, "until_items": until},
    )


def _against(need: float, have: float) -> str:
    return "fail" if need > have else "warn" if need > _WARN_SHARE * have else "pass"


MEMORY = Check(
    id="env.ram",
    order=50,
    worst="fail",
    title="memory against what the workers need",
    why="The kernel kills a worker when memory runs out; torch says only that it exited.",
    how=(
        "Free memory after cgroup limits, against workers times their measured own memory and the "
        "batches in flight. While the doctor runs, its own processes are stopped at 80 %."
    ),
    fix="Fewer workers, smaller batches, data in arrays or memory maps.",
    errors=(
        "RuntimeError: DataLoader worker (pid 1234) is killed by signal: Killed.",
        "RuntimeError: DataLoader worker (pid(s) 1234) exited unexpectedly",
    ),
    runs={
        "machine": lambda _, __: memory_check(memory_limit(), None, 0),
        "limits": lambda _, launch: memory_check(memory_limit(), launch.facts, launch.everyone),
        "items": lambda _, items: _memory_left(items),
    },
)

SHARED_MEMORY = Check(
    id="env.shm",
    order=60,
    worst="fail",
    title="shared memory",
    why="Workers hand batches over through /dev/shm; Docker gives it 64 MB.",
    how="(num_workers x prefetch_factor + 3) x bytes of a batch, against what is free.",
    fix="docker run --shm-size=8g, or --ipc=host; fewer workers or a smaller prefetch_factor.",
    errors=(
        (
            "RuntimeError: DataLoader worker (pid 1234) is killed by signal: Bus error. It is "
            "possible that dataloader's workers are out of shared memory. Please try to raise your "
            "shared memory limit."
        ),
        (
            "RuntimeError: unable to allocate shared memory(shm) for file </torch_1234>: No space "
            "left on device (28)"
        ),
    ),
    runs={
        "machine": lambda _, __: shm_check(shm_free_bytes(), None, 0),
        "limits": lambda _, launch: shm_check(shm_free_bytes(), launch.facts, launch.everyone),
    },
)

OPEN_FILES = Check(
    id="env.fds",
    order=70,
    worst="warn",
    title="open files",
    why="Each tensor of each batch in flight, and of each batch you keep, is an open file.",
    how="The soft limit, against 4 x tensors x workers x prefetch + 256.",
    fix="ulimit -n 65535; clone batches that you keep.",
    errors=(
        "RuntimeError: Too many open files. Communication with the workers is no longer possible.",
        "RuntimeError: received 0 items of ancdata",
        "OSError: [Errno 24] Too many open files",
    ),
    runs={
        "machine": lambda _, __: files_check(open_files_limit(), None, 0),
        "limits": lambda _, launch: files_check(open_files_limit(), launch.facts, launch.num_workers),
        "items": lambda _, items: _files_left(items),
    },
)
