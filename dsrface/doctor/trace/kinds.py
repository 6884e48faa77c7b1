"""Kinds of members: open handles, generators that repeat, and what to do about each fault."""

from __future__ import annotations

import io
import os
import random
import sqlite3
import stat
import sys
import types
from collections.abc import Mapping
from typing import Any

from dsrface.doctor.trace.paths import is_definition

# (module prefix, type name) -> kind; by name, so that no library is imported for the question.
_HANDLES: Mapping[tuple[str, str], str] = {
    ("h5py", "File"): "h5py",
    ("h5py", "Group"): "h5py",
    ("h5py", "Dataset"): "h5py",
    ("lmdb", "Environment"): "lmdb",
    ("lmdb", "Transaction"): "lmdb",
    ("builtins", "Environment"): "lmdb",
    ("builtins", "Transaction"): "lmdb",
    ("zipfile", "ZipFile"): "archive",
    ("tarfile", "TarFile"): "archive",
    ("numpy", "NpzFile"): "archive",
    ("socket", "socket"): "socket",
    ("subprocess", "Popen"): "process",
    ("multiprocessing", "Connection"): "pipe",
    ("multiprocessing", "PipeConnection"): "pipe",
    ("mmap", "mmap"): "mmap",
    ("cv2", "VideoCapture"): "video",
    ("av", "InputContainer"): "video",  # FFmpeg reads it through one descriptor
    ("decord", "VideoReader"): "video",  # dmlc/decord issue 294
    ("torchcodec", "VideoDecoder"): "video",  # huggingface/lerobot issue 2488
    ("duckdb", "DuckDBPyConnection"): "duckdb",
    ("asyncio", "BaseEventLoop"): "event loop",
}

_FAULTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("SemLock created in a fork context", "should only be shared"), "mp-lock"),
    (("Serialization of parametrized modules",), "parametrized"),
    (("does not have a __getstate__ method", "ScriptModules cannot be deepcopied"), "scripted"),
    (("h5py",), "h5py"),
    (("'Environment'", "'Transaction'"), "lmdb"),
    (("sqlite3",), "sqlite"),
    (("_thread", "_queue", "Condition", "ContextVar"), "lock"),
    (("_io.", "mmap"), "file"),
    (("generator", "coroutine", "iterator", "DataLoaderIter"), "generator"),
    (("module",), "module-object"),
    (("weakref", "weakproxy", "ReferenceType"), "weakref"),
    (("CUDA", "cuda"), "cuda"),
)

# Handles that their makers forbid to carry across a fork, whatever a trial shows.
CONTRACTS: Mapping[str, str] = {
    "sqlite": "SQLite: a connection must not be carried across a fork (sqlite.org/howtocorrupt.html, 2.6).",
    "duckdb": "DuckDB works with threads that a forked process does not have, and waits for them for ever "
    "(duckdb/duckdb-python issue 292).",
    "socket": "Two processes on one connection read each other's answers.",
    "process": "Two processes on one pipe read each other's answers.",
    "pipe": "Two processes on one pipe read each other's answers.",
    "event loop": "Forked processes share the selector of the loop, and get each other's events.",
    "video": "A decoder's state is copied, its file position is shared.",
}

# What to do, by kind of fault.
ADVICE: Mapping[str, str] = {
    "lambda": "Write it as a function at module level, or a small class with __call__.",
    "local": "Move it to module level, so that a worker can import it.",
    "lock": "Drop it in __getstate__ and make a new one in __setstate__ (or at first use in the worker).",
    "file": "Keep the path and open it at first use in __getitem__, keyed by os.getpid().",
    "h5py": "Keep the path and open the HDF5 file at first use in __getitem__, keyed by os.getpid().",
    "lmdb": "Keep the path and open the environment at first use in __getitem__, keyed by os.getpid().",
    "sqlite": "Keep the path and connect at first use in __getitem__, keyed by os.getpid().",
    "duckdb": "Keep the path and connect at first use in __getitem__, keyed by os.getpid().",
    "descriptor": "Use os.pread(fd, size, offset), which has no position; or open at first use in "
    "__getitem__, keyed by os.getpid().",
    "socket": "Connect at first use in the worker, keyed by os.getpid().",
    "pipe": "Make it at first use in the worker, one for each process.",
    "process": "Start it at first use in the worker, keyed by os.getpid().",
    "event loop": "Make the event loop at first use in the worker, keyed by os.getpid().",
    "video": "Keep the path and open the video at first use in __getitem__, keyed by os.getpid().",
    "archive": "Keep the path and open the archive at first use in __getitem__, keyed by os.getpid().",
    "generator": "Keep what makes the generator, and make it in __iter__ or at first use in the worker.",
    "module-object": "Import the module at the top of the file instead of keeping it as a member.",
    "weakref": "Keep a plain reference, or drop it in __getstate__.",
    "mp-lock": "Make it from the context of the workers, e.g. multiprocessing.get_context(METHOD).Queue().",
    "parametrized": "Take the network out of the data set, or use parametrize.remove_parametrizations on it.",
    "scripted": "Keep the path and torch.jit.load it at first use in the worker, or leave it out.",
    "cuda": "Keep tensors on the CPU; move batches in the training loop.",
    "other": "Drop it in __getstate__ and make a new one in __setstate__ or at first use in the worker.",
}


def handle_kind(obj: Any) -> str:
    """Return the kind of open handle an object is, or ""."""
    if isinstance(obj, type):
        return ""
    if isinstance(obj, io.IOBase):
        if _is_standard(obj):
            return ""
        if isinstance(obj, (io.BytesIO, io.StringIO)) or _is_closed(obj):
            return ""
        return "pipe" if _is_pipe(obj) else "file"
    if isinstance(obj, sqlite3.Connection):
        return "sqlite"
    for cls in type(obj).__mro__[:-1]:
        kind = _HANDLES.get((cls.__module__.partition(".")[0].lstrip("_"), cls.__name__))
        if kind is not None:
            return kind if kind != "process" or _has_pipe(obj) else ""
    return ""


def _has_pipe(process: Any) -> bool:
    """Return whether this process writes to a child, or reads from it."""
    return any(getattr(process, name, None) is not None for name in ("stdin", "stdout", "stderr"))


def repeats_in_workers(obj: Any) -> bool:
    """Return whether an object is a random generator of its own, which every worker gets in the same state.

    The global generators of random, numpy and torch are seeded per worker by torch and do not count.
    """
    if isinstance(obj, random.Random):
        return obj is not random._inst and not isinstance(obj, random.SystemRandom)  # noqa: SLF001
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(obj, torch.Generator):
        return obj is not torch.default_generator
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    if isinstance(obj, numpy.random.RandomState):
        return obj is not numpy.random.mtrand._rand  # noqa: SLF001
    return isinstance(obj, numpy.random.Generator)


def fault_kind(obj: Any, error: str) -> str:
    """Return the word that selects the advice for an object that cannot be pickled."""
    if isinstance(obj, types.LambdaType) and obj.__name__ == "<lambda>":
        return "lambda"
    is_local = is_definition(obj) and "<locals>" in obj.__qualname__
    if is_local or "local object" in error or "Can't get local" in error:
        return "local"
    kind = handle_kind(obj)
    if kind:
        return kind if kind in ADVICE else "other"
    return next((kind for needles, kind in _FAULTS if any(needle in error for needle in needles)), "other")


def held_kind(held: Any, inner: Any, error: str) -> str:
    """Return the word that selects the advice for a library's object that holds what cannot be pickled."""
    kind = fault_kind(held, error)
    is_own = kind in ("local", "weakref") or _is_standard(inner)  # those are the library's own affair
    return "other" if is_own else kind


def module_kind(module: Any) -> str:
    """Return `network`, or `module` for one without weights: a transform with its constants."""
    return "network" if any(True for _ in module.parameters()) else "module"


def _is_pipe(handle: io.IOBase) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(handle.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _is_standard(obj: Any) -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return any(obj is stream for stream in streams)


def _is_closed(handle: io.IOBase) -> bool:
    try:
        return handle.closed
    except ValueError:
        return True
