"""What items leave behind in this process: changed members, growth, open files, memory, threads, files.

Members are known by path. A reading of all of them is taken before and after items are loaded, and again
after the same items were loaded once more: what grows the second time too is a leak, what grows once is a
cache.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.proof.handles import open_descriptors
from dsrface.doctor.proof.seeding import is_generator
from dsrface.doctor.sizing.measure import spread_indices
from dsrface.doctor.sizing.memory import tensor_sizes
from dsrface.doctor.trace.places import FEW, MOST_PATHS, SAMPLED, SCALARS, SIZED, Place, members

_LONG = 200_000  # to hash that many entries takes some 50 ms
_MOST_ARRAY_BYTES = 64 << 20
_SHARED = "/dev/shm"  # noqa: S108 - where POSIX shared memory is


@dataclass
class Reading:
    """The state of everything at one moment.

    Args:
        values: Scalars by path.
        lengths: Lengths of containers by path, and of caches (`functools.lru_cache`); of a list without those
            of its entries that are None, which a cache fills.
        contents: Hash of short containers, of queues and of arrays by path; what changes in place shows here.
        orders: Hash of the entries of longer lists by path, as they stand and sorted.
        iterators: Paths of members that are iterators, which every item may advance.
        unbounded: Caches without a bound.
        generators: Hash of the state of each generator by path.
        places: Where scalars and containers are.
        descriptors: Open descriptors.
        memory_bytes: Own memory; 0 where the system does not tell.
        num_threads: Threads, those of C libraries included where the system tells.
        num_children: Child processes.
        num_blocks: Blocks of shared memory on this machine; 0 where the system does not tell.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    orders: dict[str, tuple[int, int]] = field(default_factory=dict)
    iterators: list[str] = field(default_factory=list)
    unbounded: list[str] = field(default_factory=list)
    generators: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    descriptors: int = 0
    memory_bytes: int = 0
    num_threads: int = 0
    num_children: int = 0
    num_blocks: int = 0


def read_state(roots: Mapping[str, Any]) -> Reading:
    """Take a reading of the members below the roots, of the user's module variables, and of the process."""
    reading = Reading()
    array_bytes = 0
    for count, (path, place, value) in enumerate(members(roots)):
        if count > MOST_PATHS:
            break
        if isinstance(value, SCALARS):
            reading.values[path] = value
            reading.places[path] = place
        elif isinstance(value, SIZED):
            reading.lengths[path] = _num_entries(value)
            reading.places[path] = place
            if len(value) <= FEW or (isinstance(value, deque) and len(value) <= _LONG):
                reading.contents[path] = fingerprint(list(map(id, value)))
            elif isinstance(value, list) and len(value) <= _LONG:
                entries = list(map(id, value))
                reading.orders[path] = hash(tuple(entries)), hash(tuple(sorted(entries)))
        elif is_generator(value):
            reading.generators[path] = generator_state(value)
        elif callable(getattr(value, "cache_info", None)):
            reading.lengths[f"{path} (its cache)"] = value.cache_info().currsize
            if value.cache_info().maxsize is None:
                reading.unbounded.append(f"{path} (its cache)")
        elif _is_array(value):
            array_bytes += tensor_sizes(value)[0]
            reading.contents[path] = fingerprint(value if array_bytes <= _MOST_ARRAY_BYTES else _rows(value))
            reading.places[path] = place
        elif hasattr(value, "__next__") and not hasattr(value, "fileno"):
            reading.iterators.append(path)
    reading.descriptors = len(open_descriptors())
    reading.memory_bytes = memory_bytes()
    reading.num_threads = len(thread_ids())
    reading.num_children = _num_children()
    reading.num_blocks = len(os.listdir(_SHARED)) if os.path.isdir(_SHARED) else 0
    return reading


def _num_entries(value: Any) -> int:
    if isinstance(value, list) and len(value) <= _LONG:
        return len(value) - sum(entry is None for entry in value)
    return len(value)


def changed_scalars(before: Reading, after: Reading) -> list[str]:
    """Return the paths of numbers and texts that are others now."""
    return [
        path
        for path, value in after.values.items()
        if path in before.values and before.values[path] is not value and before.values[path] != value
    ]


def changed_contents(before: Reading, after: Reading) -> list[str]:
    """Return the paths of containers that were shortened or rearranged, and of arrays changed in place."""
    shorter = [path for path, length in after.lengths.items() if length < before.lengths.get(path, 0)]
    other = [
        path
        for path, digest in after.contents.items()
        if before.contents.get(path, digest) != digest
        and after.lengths.get(path, 0) <= before.lengths.get(path, 0)
    ]
    shuffled = [
        path
        for path, (order, entries) in after.orders.items()
        if before.orders.get(path, (order, entries)) != (order, entries) and before.orders[path][1] == entries
    ]
    return list(dict.fromkeys([*shorter, *other, *shuffled]))


def growing(before: Reading, after: Reading) -> dict[str, int]:
    """Return by how much containers have grown, by path; those that are new count too."""
    return {
        path: length - before.lengths.get(path, 0)
        for path, length in after.lengths.items()
        if length > before.lengths.get(path, 0) and path in before.lengths
    }


def drawn_generators(before: Reading, after: Reading) -> list[str]:
    """Return the paths of generators whose state has moved."""
    return [path for path, state in after.generators.items() if before.generators.get(path) != state]


def entry_bytes(place: Place) -> int:
    """Return the mean bytes of a container's last entries."""
    value = place.get()
    entries = [entry for entry in (value.values() if isinstance(value, dict) else value) if entry is not None]
    entries = entries[-8:]
    if not entries:
        return 0
    return sum(max(tensor_sizes(entry)[0], sys.getsizeof(entry)) for entry in entries) // len(entries)


def _is_array(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.device.type == "cpu"
    return (
        not issubclass(type(value), type)
        and hasattr(value, "__array_interface__")
        and hasattr(value, "tobytes")
        and not (type(value).__name__ == "memmap" and not value.flags.writeable)
    )


def _rows(array: Any) -> list[Any]:
    """Return the rows that belong to the items that are loaded, where there is a row for each item."""
    return [array[index] for index in spread_indices(len(array), SAMPLED)]


def memory_bytes() -> int:
    """Return this process's resident memory that no file backs; 0 where the system does not tell."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def thread_ids() -> set[int]:
    """Return the threads of this process, those of C libraries included where the system tells."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir():
        return {int(task.name) for task in tasks.iterdir()}
    return {thread.ident or 0 for thread in threading.enumerate()}


def _num_children() -> int:
    total = 0
    for path in Path("/proc/self/task").glob("*/children") if Path("/proc/self/task").is_dir() else ():
        try:
            total += len(path.read_text(encoding="ascii").split())
        except OSError:
            continue
    return total


def generator_state(generator: Any) -> str:
    """Return a hash of a random generator's state."""
    if isinstance(generator, torch.Generator):
        raw = generator.get_state().numpy().tobytes()
    elif hasattr(generator, "bit_generator"):
        raw = repr(generator.bit_generator.state).encode()
    elif hasattr(generator, "get_state"):
        raw = repr(generator.get_state()[2:]).encode() + generator.get_state()[1].tobytes()
    else:
        raw = repr(generator.getstate()).encode()
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
