"""What items leave behind in this process: changed members, growth, open files, memory, threads, written
files.

Members are known by path. A reading of all of them is taken before and after items are loaded, and again
after
the same items were loaded once more: what grows the second time too is a leak, what grows once is a cache.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dsrface.doctor.proof.fingerprint import num_bytes
from dsrface.doctor.proof.handles import open_descriptors
from dsrface.doctor.proof.seeding import is_generator, users_modules

_MOST_PATHS = 4000
_DEEPEST = 5
_FEW = 64
_SCALARS = (bool, int, float, str, bytes, type(None))
_SIZED = (list, dict, set, deque, bytearray)


@dataclass(frozen=True)
class Place:
    """Where a member is held, so that it can be set back.

    Args:
        owner: Object or module dictionary.
        name: Attribute or key.
    """

    owner: Any
    name: Any

    def get(self) -> Any:
        """Return the member."""
        return self.owner[self.name] if isinstance(self.owner, dict) else getattr(self.owner, self.name)

    def set(self, value: Any) -> None:
        """Set the member."""
        if isinstance(self.owner, dict):
            self.owner[self.name] = value
        else:
            setattr(self.owner, self.name, value)


@dataclass
class Reading:
    """The state of everything at one moment.

    Args:
        values: Scalars by path.
        lengths: Lengths of containers by path.
        generators: Hash of the state of each generator by path.
        places: Where scalars and containers are.
        descriptors: Open descriptors.
        memory_bytes: Own memory; 0 where the system does not tell.
        num_threads: Threads, those of C libraries included where the system tells.
        num_children: Child processes.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    generators: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    descriptors: int = 0
    memory_bytes: int = 0
    num_threads: int = 0
    num_children: int = 0


def read_state(roots: Mapping[str, Any]) -> Reading:
    """Take a reading of the members below the roots, of the user's module variables, and of the process."""
    reading = Reading()
    for count, (path, place, value) in enumerate(_members(roots)):
        if count > _MOST_PATHS:
            break
        if isinstance(value, _SCALARS):
            reading.values[path] = value
            reading.places[path] = place
        elif isinstance(value, _SIZED):
            reading.lengths[path] = len(value)
            reading.places[path] = place
        elif is_generator(value):
            reading.generators[path] = _state(value)
        elif (inner := getattr(value, "cache_info", None)) is not None and callable(inner):
            reading.lengths[f"{path} (its cache)"] = inner().currsize
    reading.descriptors = len(open_descriptors())
    reading.memory_bytes = memory_bytes()
    reading.num_threads = num_threads()
    reading.num_children = _num_children()
    return reading


def changed_scalars(before: Reading, after: Reading) -> list[str]:
    """Return the paths of numbers and texts that are others now; a member that was None is a lazy one."""
    return [
        path
        for path, value in after.values.items()
        if path in before.values and before.values[path] is not None and before.values[path] != value
    ]


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
    entries = list(value.values() if isinstance(value, dict) else value)[-8:]
    if not entries:
        return 0
    return sum(max(num_bytes(entry), sys.getsizeof(entry)) for entry in entries) // len(entries)


class WrittenFiles:
    """Counts the files that are opened for writing while it listens; an audit hook cannot be removed."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.is_listening = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not self.is_listening or not isinstance(args[0], (str, bytes)):
            return
        path, mode, flags = args
        writes = (
            any(letter in (mode or "") for letter in "wax+")
            if mode
            else bool(flags & (os.O_WRONLY | os.O_RDWR))
        )
        name = os.fsdecode(path)
        if writes and not name.startswith(("/dev/", "/proc/")) and not name.endswith(".pyc"):
            self.counts[name] = self.counts.get(name, 0) + 1


def memory_bytes() -> int:
    """Return this process's resident memory that no file backs; 0 where the system does not tell."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def num_threads() -> int:
    """Return the threads of this process, those of C libraries included where the system tells."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def _num_children() -> int:
    total = 0
    for path in Path("/proc/self/task").glob("*/children") if Path("/proc/self/task").is_dir() else ():
        try:
            total += len(path.read_text(encoding="ascii").split())
        except OSError:
            continue
    return total


def _members(roots: Mapping[str, Any]) -> Iterator[tuple[str, Place, Any]]:
    """Yield path, place and value of members, breadth first; long containers are not entered."""
    queue: deque[tuple[str, Any, int]] = deque(
        (name, root, 0) for name, root in roots.items() if root is not None
    )
    seen: set[int] = set()
    for module in users_modules():
        for key, value in list(vars(module).items()):
            if not key.startswith("__") and (
                isinstance(value, (*_SCALARS, *_SIZED)) or is_generator(value) or hasattr(value, "cache_info")
            ):
                yield f"{module.__name__}.{key}", Place(vars(module), key), value
    while queue:
        path, owner, depth = queue.popleft()
        if id(owner) in seen or depth > _DEEPEST:
            continue
        seen.add(id(owner))
        for step, place, value in _entries(owner):
            yield f"{path}{step}", place, value
            if not isinstance(value, (*_SCALARS, torch.Tensor, type)):
                queue.append((f"{path}{step}", value, depth + 1))
        for name, value in _class_entries(owner):
            yield f"{type(owner).__name__}.{name}", Place(type(owner), name), value


def _entries(owner: Any) -> Iterator[tuple[str, Place, Any]]:
    if isinstance(owner, dict):
        if len(owner) <= _FEW:
            for key, value in list(owner.items()):
                yield f"[{key!r}]", Place(owner, key), value
    elif isinstance(owner, (list, tuple)):
        if len(owner) <= _FEW:
            for index, value in enumerate(owner):
                if not isinstance(value, _SCALARS):
                    yield f"[{index}]", Place(owner, index), value
    elif not isinstance(owner, (type, torch.Tensor)):
        for name, value in list((getattr(owner, "__dict__", None) or {}).items()):
            yield f".{name}", Place(owner, name), value


def _class_entries(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the mutable attributes and counters of the owner's class, and its cached methods."""
    from dsrface.runtime.user_code import is_users

    for cls in type(owner).__mro__[:-1]:
        module = sys.modules.get(cls.__module__)
        if not is_users(str(getattr(module, "__file__", None) or "")):
            continue
        for name, value in list(vars(cls).items()):
            if not name.startswith("__") and (
                isinstance(value, (int, float, *_SIZED)) or hasattr(value, "cache_info")
            ):
                yield name, value


def _state(generator: Any) -> str:
    if isinstance(generator, torch.Generator):
        raw = generator.get_state().numpy().tobytes()
    elif hasattr(generator, "bit_generator"):
        raw = repr(generator.bit_generator.state).encode()
    elif hasattr(generator, "get_state"):
        raw = repr(generator.get_state()[2:]).encode() + generator.get_state()[1].tobytes()
    else:
        raw = repr(generator.getstate()).encode()
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
