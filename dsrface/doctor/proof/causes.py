"""Why an item that loads here fails or differs in a worker, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsrface.doctor.proof.variables import difference, process_state
from dsrface.doctor.trace.kinds import ADVICE, CONTRACTS

if TYPE_CHECKING:
    from dsrface.doctor.proof.compare import Comparison
    from dsrface.doctor.proof.start import Start

_FORKSERVER = 'pass multiprocessing_context="forkserver" to the DataLoader'


@dataclass(frozen=True)
class Cause:
    """A cause in words.

    Args:
        name: One word for programs.
        summary: To stand after the finding; may be empty.
        matters: What happens.
        fix: What to do.
        where: The member, variable or line; may be empty.
    """

    name: str
    summary: str
    matters: str
    fix: str
    where: str = ""


_NOT_FORK_SAFE = ("fork-safe", "fork safe", "after fork", "forked")
_POOL = Cause(
    "pool",
    "",
    "A worker is a daemonic process, and those may not start processes of their own.",
    "No multiprocessing.Pool or Process in __getitem__: the workers are the pool. Do the work in the item "
    "itself, or with threads, and raise num_workers.",
)
_SHARED_POSITION = Cause(
    "handle",
    "",
    "The workers share the position of an open file and read each other's bytes.",
    "See ds.open_handles, which names the file. Open it at first use in __getitem__, keyed by os.getpid().",
)
_INTERRUPT = Cause(
    "interrupt",
    "",
    "A worker that is interrupted ends without a word: 'DataLoader worker (pid ...) exited unexpectedly'.",
    "Raise RuntimeError instead, and send no SIGINT to workers.",
)
_GRADIENT = Cause(
    "gradient",
    "",
    "A worker collates into shared memory and sends tensors to another process: neither can carry a "
    "gradient.",
    "See ds.output. Call the network under torch.no_grad(), or .detach() what you return.",
)
_QUANTIZED = Cause(
    "quantized",
    "",
    "A worker collates into shared memory, which takes no quantized tensors.",
    "Return int_repr() of a quantized tensor, and its scale and zero point where they differ.",
)
_SPENT = Cause(
    "iterator",
    "",
    "Each worker has its own copy of an iterator that items share, where it stood when the worker started: "
    "next() finds its end at another item than here.",
    "Let __getitem__ find its sample by the index alone; guard next(iterator), or raise ValueError instead.",
)
_NO_ID = Cause(
    "identity",
    "",
    "The missing key looks like an id(): every object of a fresh worker has another one.",
    "Make the value itself the key, not its id().",
)
_FORK = Cause(
    "fork",
    "",
    "The library says itself that it cannot be used in a forked process.",
    f"Make the object at first use in the worker, or {_FORKSERVER}.",
)
_FEW_SHARDS = Cause(
    "shards",
    "",
    "The stream has fewer shards than there are workers.",
    "Use at most as many workers as there are shards, or cut the data into more shards.",
)
_INHERITED = Cause(
    "inherited",
    "",
    "The item loads in this process: the worker fails on what it inherited (an open file, a connection, a "
    "lock, a thread that does not exist there).",
    f"Make it at first use in the worker, keyed by os.getpid(), or {_FORKSERVER}.",
)
_OTHER_PROCESS_SPAWNED = Cause(
    "process",
    "each worker gives another one",
    "The item depends on the process: its id, or the order of a set or hash() of a text, which differ "
    "between spawned processes unless PYTHONHASHSEED is set.",
    "Let __getitem__ depend on the index alone: no os.getpid() and no hash(), and sorted() where a set is "
    "turned into numbers (labels, indices).",
)
_OTHER_PROCESS_FORKED = Cause(
    "process",
    "each worker gives another one",
    "The item depends on the process (its id, an object that forked copies share), or workers race.",
    "Let __getitem__ depend on the index alone. Open files, connections and shared buffers at first use in "
    "the worker, keyed by os.getpid().",
)
_BEING_A_WORKER = Cause(
    "process",
    "all workers give the same other one",
    "The item depends on being in a worker (get_worker_info, the number of threads, what was inherited).",
    "Let __getitem__ depend on the index alone; draw random numbers from torch.initial_seed().",
)


def cause_of_exception(
    error: Mapping[str, Any], method: str, *, num_moved: int, made: Sequence[str] = ()
) -> Cause:
    """Return why a worker raised on an item that loads here.

    Args:
        error: What the worker wrote: type, text, traceback.
        method: Start method.
        num_moved: Shared positions that workers moved.
        made: Files that one item makes in place for others to read.
    """
    text = f"{error['type']}: {error['text']}"
    if "daemonic processes are not allowed" in text:
        return _POOL
    if num_moved:
        return _SHARED_POSITION
    if error["type"] == "KeyboardInterrupt":
        return _INTERRUPT
    if error["type"] == "StopIteration":
        return _SPENT
    if method != "fork" and error["type"] == "KeyError" and re.search(r"\b\d{9,}\b", error["text"]):
        return _NO_ID
    if "requires grad" in text or "requires_grad" in text:
        return _GRADIENT
    if "QuantizedCPU" in text:
        return _QUANTIZED
    if method == "fork" and any(words in text.lower() for words in _NOT_FORK_SAFE):
        return _FORK
    if "shards" in text and "worker" in text:
        return _FEW_SHARDS
    if made:
        name = os.path.basename(made[0])
        return Cause(
            "file",
            "",
            f"Workers that start together write {name} at the same time, and read it half written.",
            "See ds.state. Make the file before the loader; or write to a temporary name in the same folder "
            "and os.replace() it.",
        )
    return _INHERITED if method == "fork" else _fresh_start(method)


def _fresh_start(method: str) -> Cause:
    """Return why a worker that was not forked fails, where its exception does not say it."""
    return Cause(
        "state",
        "",
        f"A {method} worker starts fresh and imports the modules again: what the main program has set since "
        "is not there (module variables, flags of libraries such as PIL.ImageFile.LOAD_TRUNCATED_IMAGES, "
        "os.chdir, registered classes).",
        "Set it in worker_init_fn or where the module is imported, or keep it as an attribute of the data "
        "set.",
    )


def cause_of_wrong_items(
    found: Comparison, starts: list[Start], method: str, *, moved: bool, handles: Sequence[Mapping[str, Any]]
) -> Cause:
    """Return why items of workers differ from those of this process.

    Args:
        found: The comparison.
        starts: Of workers.
        method: Start method.
        moved: Workers moved the position of a file that they share.
        handles: That are open in this process: path, kind, source.
    """
    if moved:
        return Cause(
            "handle",
            "a file position is shared",
            "Forked workers read each other's bytes.",
            "See ds.open_handles, which names the file. Open files at first use in __getitem__, keyed by "
            "os.getpid().",
        )
    inherited = [handle for handle in handles if handle["kind"] in CONTRACTS]
    if method == "fork" and inherited:
        kind = inherited[0]["kind"]
        return Cause(
            "handle",
            f"forked workers share {inherited[0]['path']}",
            CONTRACTS[kind],
            f"See ds.open_handles. {ADVICE.get(kind, ADVICE['file'])}",
        )
    variable = _other_variable(starts)
    if method != "fork" and variable is not None:
        return Cause(
            "variable",
            f"{variable} has another value in a worker",
            f"A {method} worker starts fresh and imports the modules again: what the main program has set "
            "since is not there.",
            "Set it in worker_init_fn, or keep the value as an attribute of the data set.",
            where=variable,
        )
    if method != "fork" and found.agree:
        return Cause(
            "state",
            "state of this process is missing there",
            f"All {method} workers agree with each other: they lack something that the main program has set "
            "(a flag of a library, the working folder, a member that __getstate__ drops), or compare by `is` "
            "or id() what pickling has copied (an object() that marks a missing value).",
            "Set it in worker_init_fn or where the module is imported, or keep it in the data set. Mark a "
            "missing value with None or an Enum. "
            "Where the order of a set decides (forkserver workers share one hash seed), use sorted().",
        )
    if method == "spawn":
        return _OTHER_PROCESS_SPAWNED
    return _BEING_A_WORKER if found.agree else _OTHER_PROCESS_FORKED


def _other_variable(starts: list[Start]) -> str | None:
    notes = [note for start in starts for note in start.evidence.notes if note.get("variables")]
    if not notes:
        return None
    return difference(process_state(), notes[0]["variables"])
