"""Say in plain words why a DataLoader worker failed; torch's own message is only "exited unexpectedly".

The signal, the exit code or the exception with its sample sits in the chain of causes. Each explanation names
the doctor check that would have shown it before the launch.
"""

from __future__ import annotations

import os
import re
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsrface.errors import WorkerError
from dsrface.runtime.resources import memory_limit, oom_kills, shm_free_bytes
from dsrface.runtime.text import size_text
from dsrface.runtime.user_code import error_in, innermost_in

_CAUGHT = re.compile(r"Caught (\S+) in DataLoader worker process (\d+)")
_SIGNAL = re.compile(r"killed by signal: ([^.]+)\.")
_EXIT_CODE = re.compile(r"exit code (-?\d+)")
_TIMEOUT = re.compile(r"DataLoader timed out after (\S+) seconds")
_FURTHER = ("During handling of the above", "The above exception was")
SENDING = "while it sent a batch"  # see `worker_queue`
_HAS_FORK = hasattr(os, "fork")
_START_CHECK = "worker.fork" if _HAS_FORK else "worker.spawn"
_HANGS = "Often a lock was held, or OpenMP had threads, at the fork. " if _HAS_FORK else ""
_UNPICKLABLE = (
    "Can't pickle",
    "Can't get local object",
    "cannot pickle",
    "cannot be pickled",
    "Can't get attribute",
    "Cowardly refusing to serialize",
    "Serialization of parametrized modules",
)
# Exit codes of Windows, which has no signals: NTSTATUS values (learn.microsoft.com, [MS-ERREF] 2.3.1).
_WINDOWS_DEATHS = {
    0xC0000005: ("worker-crashed", "crashed (access violation) in native code"),
    0xC0000374: ("worker-crashed", "crashed (damaged heap) in native code"),
    0xC0000409: ("worker-crashed", "was ended by a check of native code (fast fail or abort)"),
    0xC00000FD: ("worker-crashed", "overflowed its stack: a recursion without an end"),
    0xC0000017: ("worker-out-of-memory", "got no memory from the system"),
    0xC000012D: ("worker-out-of-memory", "met the commit limit: RAM and page file are promised away"),
    0xC000013A: ("worker-crashed", "was ended by Ctrl-C or by its window being closed"),
}
_LISTED = "`dsrface doctor --dataset ...` lists every such member by its path."
_PLAIN_RUN = "See the worker's last lines above; --workers 0 shows the fault in this process."


@dataclass(frozen=True)
class _Case:
    """One kind of failure: recognised by any of `needles` in the chain of messages."""

    id: str
    check: str
    needles: tuple[str, ...]
    message: str
    hint: Callable[[int], str]


def explain(
    error: BaseException, *, num_workers: int, dataset: str = "", exit_codes: Sequence[int] = ()
) -> WorkerError:
    """Translate what a DataLoader raised into an error with the cause, the fix and the doctor check.

    Args:
        error: The exception as raised while iterating; its chain of causes is read.
        num_workers: Workers of that loader.
        dataset: What was being read, e.g. the folder; the place when the worker does not name one.
        exit_codes: Those of the workers that are gone, where they are known.
    """
    chain = _chain(error)
    text = "\n".join([*(str(link) for link in chain), *(f"exit code {code}" for code in exit_codes if code)])
    if SENDING in text and any(needle in text for needle in _UNPICKLABLE):
        return _from_unpicklable_batch(text, dataset)
    for case in _CASES:
        if any(needle in text for needle in case.needles):
            return _error(
                case.message, id=case.id, where=dataset, hint=case.hint(num_workers), check=case.check
            )
    if _is_from_starting(error):
        return _error(
            f"The data set cannot be sent to a worker process: {_said(str(error))}",
            id="worker-unpicklable",
            where=dataset,
            hint=_LISTED,
            check="ds.unpicklable",
        )
    caught = _CAUGHT.search(text)
    if caught is not None and SENDING in text:
        return _from_sending(text, caught, dataset)
    if caught is not None:
        return _from_exception(text, caught, dataset)
    timeout = _TIMEOUT.search(text)
    if timeout is not None:
        return _error(
            f"No batch from {num_workers} workers in {timeout.group(1)} s: they hang or are far too slow.",
            id="worker-hung",
            where=dataset,
            hint=f"{_HANGS}The doctor shows the line.",
            check=_START_CHECK,
        )
    if not _signal_name(text) and any(isinstance(link, (ConnectionError, EOFError)) for link in chain):
        return _error(
            "A worker died while it handed over a batch.",
            id="worker-died",
            where=dataset,
            hint=f"Most often memory ran out: use fewer workers, e.g. --workers {num_workers // 2}.",
            check="env.ram",
        )
    return _from_death(text, num_workers, dataset)


def _is_from_starting(error: BaseException) -> bool:
    """Return whether an error was raised while a process was started, by what is pickled for it."""
    frames = traceback.extract_tb(error.__traceback__)
    names = [frame.name for frame in frames if "multiprocessing" in frame.filename]
    return "start" in names and "dump" in names


def _said(text: str) -> str:
    return error_in(text) or "no message"


def _from_unpicklable_batch(text: str, dataset: str) -> WorkerError:
    return _error(
        f"A batch cannot be sent to this process: {_said(text)}",
        id="worker-batch-unpicklable",
        where=dataset,
        hint="Let the data set return tensors, arrays, numbers and texts; no functions, locks, handles.",
        check="ds.items",
    )


def _from_sending(text: str, caught: re.Match[str], dataset: str) -> WorkerError:
    return _error(
        f"Worker {caught.group(2)} could not send a batch: {_said(text)}",
        id="worker-died",
        where=dataset,
        hint=_PLAIN_RUN,
        check="worker.spawn",
    )


def _from_exception(text: str, caught: re.Match[str], dataset: str) -> WorkerError:
    """The worker raised: its original traceback is part of the message."""
    name, worker = caught.group(1), caught.group(2)
    lines = [line for line in text[caught.start() :].splitlines()[1:] if line.strip()]
    starts = (f"{name}:", f"{name.rsplit('.', 1)[-1]}:")
    first = next((n for n, line in enumerate(lines) if line.split(" ")[0].endswith(starts)), None)
    said = lines[first:] if first is not None else [name]
    again = next((n for n, line in enumerate(said) if line.startswith(_FURTHER)), len(said))
    said = said[:again]  # what was raised on top of it only wraps it
    stated = next((line.removeprefix("where: ") for line in said if line.startswith("where: ")), "")
    reason = " ".join(line for line in said if not line.startswith(("where: ", "to do: ")))
    return _error(
        f"Worker {worker} met an exception while it loaded a sample: {reason}",
        id="worker-exception",
        where=stated or innermost_in(text) or dataset,
        hint="Repair or remove that sample; --workers 0 gives the plain traceback.",
        check="ds.items",
    )


def _from_death(text: str, num_workers: int, dataset: str) -> WorkerError:
    """The worker is gone without an exception: tell the signal or the exit code."""
    name = _signal_name(text)
    if name in ("SIGKILL", "Killed"):
        kills = oom_kills()
        seen = f" (the kernel counts {kills} kills for memory here)" if kills else ""
        free = size_text(memory_limit().available_bytes)
        return _error(
            f"A worker was killed{seen}: almost always because memory ran out; {free} are free now.",
            id="worker-out-of-memory",
            where=dataset,
            hint=f"Use fewer workers, e.g. --workers {num_workers // 2}, or a smaller batch.",
            check="env.ram",
        )
    if name in ("SIGSEGV", "Segmentation fault"):
        return _error(
            "A worker crashed (segmentation fault) in native code.",
            id="worker-crashed",
            where=dataset,
            hint="Open files, HDF5 and LMDB handles, and start native threads (OpenCV, BLAS), inside the "
            "worker; or use --workers 0.",
            check="ds.open_handles",
        )
    if name:
        return _error(
            f"A worker was ended by the signal {name}.",
            id="worker-crashed",
            where=dataset,
            hint=_PLAIN_RUN,
            check=_START_CHECK,
        )
    code = _EXIT_CODE.search(text)
    if code is not None and int(code.group(1)) % 2**32 in _WINDOWS_DEATHS:
        id, what = _WINDOWS_DEATHS[int(code.group(1)) % 2**32]
        hint = f"Use fewer workers, e.g. --workers {num_workers // 2}. " if "memory" in id else ""
        return _error(
            f"A worker {what}.", id=id, where=dataset, hint=f"{hint}{_PLAIN_RUN}", check="worker.spawn"
        )
    detail = f" with exit code {code.group(1)}" if code else ""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    if not detail and "exited unexpectedly" not in first:
        return _error(
            f"What a worker sent could not be taken: {first}",
            id="worker-died",
            where=dataset,
            hint="Return dense tensors, arrays, numbers and texts (of a quantized tensor, its int_repr()).",
            check="ds.output",
        )
    return _error(
        f"A worker ended unexpectedly{detail}.",
        id="worker-died",
        where=dataset,
        hint=_PLAIN_RUN,
        check=_START_CHECK,
    )


def _signal_name(text: str) -> str:
    found = _SIGNAL.search(text)
    if found is not None:
        return found.group(1).strip()
    code = _EXIT_CODE.search(text)
    if code is not None and int(code.group(1)) < 0:
        try:
            return signal.Signals(-int(code.group(1))).name
        except ValueError:
            return f"signal {-int(code.group(1))}"
    return ""


def _error(message: str, *, id: str, where: str, hint: str, check: str) -> WorkerError:
    return WorkerError(
        message, id=id, where=where, hint=f"{hint} `dsrface doctor` finds this before a launch ({check})."
    )


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _shm_hint(num_workers: int) -> str:
    free = shm_free_bytes()
    have = f"{size_text(free)} are free in /dev/shm now. " if free is not None else ""
    return (
        f"{have}Start the container with `docker run --shm-size=8g` (or --ipc=host), or use fewer workers, "
        f"e.g. --workers {num_workers // 2}."
    )


_CASES = (
    _Case(
        id="worker-out-of-memory",
        check="env.commit",
        needles=("WinError 1455", "paging file is too small", "WinError 1450"),
        message="Windows has promised away all of RAM and page file, so a worker got no memory.",
        hint=lambda num_workers: (
            f"Use fewer workers, e.g. --workers {num_workers // 2}, or let Windows choose a larger page file."
        ),
    ),
    _Case(
        id="worker-shared-memory",
        check="env.shm",
        needles=("unable to allocate shared memory", "out of shared memory", "killed by signal: Bus error"),
        message="Shared memory (/dev/shm) is full: workers hand their batches over through it.",
        hint=_shm_hint,
    ),
    _Case(
        id="worker-open-files",
        check="env.fds",
        needles=("Too many open files", "received 0 items of ancdata"),
        message="The limit of open files is reached: each tensor that a worker hands over holds one.",
        hint=lambda _: "Raise it with `ulimit -n 65535`, and clone batches that you keep.",
    ),
    _Case(
        id="worker-cuda-fork",
        check="mp.cuda_fork",
        needles=("Cannot re-initialize CUDA in forked subprocess",),
        message="A forked worker touched CUDA, which a forked process cannot use.",
        hint=lambda _: (
            "Keep models and CUDA tensors out of the data set: `dsrface precompute` once, or run the network "
            "on the batch in the training step."
        ),
    ),
    _Case(
        id="worker-temporary-tensor",
        check="ds.temp_tensor",
        needles=("unable to resize file",),
        message="A tensor made while the data set was being pickled died before the worker could open it.",
        hint=lambda _: (
            "In __getstate__ return numpy arrays or keep the tensor as an attribute; no torch.Generator."
        ),
    ),
    _Case(
        id="worker-many-tensors",
        check="worker.forkserver",
        needles=("too many fds",),
        message="A worker by forkserver takes at most some 250 open files, and each tensor of the data set "
        "is one.",
        hint=lambda _: (
            "Keep the data in a few large tensors (torch.cat with offsets), or call "
            'torch.multiprocessing.set_sharing_strategy("file_system").'
        ),
    ),
    _Case(
        id="worker-main-guard",
        check="mp.main_guard",
        needles=("An attempt has been made to start a new process before",),
        message="The script starts workers while it is being imported by a worker.",
        hint=lambda _: 'Put the code that runs under `if __name__ == "__main__":`.',
    ),
    _Case(
        id="worker-unpicklable",
        check="ds.unpicklable",
        needles=_UNPICKLABLE,
        message="The data set cannot be sent to a worker process: one of its members cannot be pickled.",
        hint=lambda _: _LISTED,
    ),
)
