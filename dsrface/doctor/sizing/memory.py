"""Memory of this process's children, and sizes of what a data set delivers; standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_DEEPEST = 8


def own_bytes_of_children() -> int:
    """Return the largest own memory (pages that are not shared) of a child process; 0 where unknown."""
    sizes = [0]
    for pid in _children(os.getpid()):
        try:
            if b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                continue
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except (OSError, ValueError):
            continue
        private = [int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")]
        sizes.append(1024 * sum(private))
    return max(sizes)


def _children(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(word) for word in path.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in pids:
            found += [child, *_children(child)]
    return found


def tensor_bytes(tensor: Any) -> int:
    """Return the bytes of a tensor's data; 0 for a parameter of a lazy module, which has no shape yet."""
    try:
        return int(tensor.numel() * tensor.element_size())
    except ValueError:
        return 0


def tensor_sizes(value: Any, depth: int = 0) -> tuple[int, int]:
    """Return the bytes and the number of the tensors and arrays in an item or a batch."""
    if depth > _DEEPEST or issubclass(type(value), type):  # objects may refer to one another in a circle
        return 0, 0
    if hasattr(value, "element_size"):
        return tensor_bytes(value), 1
    if hasattr(value, "nbytes"):
        return int(value.nbytes), 1
    parts: Sequence[Any] = ()
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = value
    elif hasattr(value, "__dict__"):
        parts = list(vars(value).values())
    sizes = [tensor_sizes(part, depth + 1) for part in parts]
    return sum(size for size, _ in sizes), sum(count for _, count in sizes)
