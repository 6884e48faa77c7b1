"""Who holds an object: the path a user would write to it, wherever it is held.

Members are found, and so are module variables, class attributes, closures and the results of lru_cache.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import io
import os
import re
import socket
from collections.abc import Callable, Mapping
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from dsrface.doctor.proof.evidence import Owner
from dsrface.doctor.proof.seeding import users_modules
from dsrface.doctor.trace.kinds import handle_kind
from dsrface.doctor.trace.paths import class_line, locate, step_to
from dsrface.runtime.user_code import is_ordinary, is_users_definition

_MOST_OBJECTS = 200_000
_LONG = 10_000
_NAMED_FOR_IT = re.compile(r"fd|fileno|handle|desc|file", re.IGNORECASE)
_CACHE = type(functools.lru_cache(lambda: None))


def owner_of_descriptor(fd: int, roots: Mapping[str, Any]) -> Owner | None:
    """Return who holds an open descriptor; None when no Python object does (a C library, perhaps).

    Args:
        fd: The descriptor's number.
        roots: Name to object, e.g. `{"dataset": ..., "collate_fn": ...}`; the user's modules come after them.
    """
    chain = find(roots, lambda value: _fileno(value) == fd)
    if chain is not None:
        return _named(chain)
    return _bare_number(fd, roots) or _holder_of_file(fd, roots)


def find(roots: Mapping[str, Any], is_it: Callable[[Any], bool]) -> list[tuple[str, Any]] | None:
    """Return the way to the first object that fits, as (path, object) from its root on."""
    queue: collections.deque[tuple[Any, int, str]] = collections.deque()
    links: list[tuple[int, str, Any]] = []
    for name, root in roots.items():
        if root is not None:
            queue.append((root, -1, name))
    for module in users_modules():
        queue.extend((value, -1, f"{module.__name__}.{key}") for key, value in list(vars(module).items()))
    seen: set[int] = set()
    while queue and len(links) < _MOST_OBJECTS:
        value, parent, path = queue.popleft()
        if id(value) in seen or not is_ordinary(value) or not _is_entered(value):
            continue
        seen.add(id(value))
        links.append((parent, path, value))
        if is_it(value):
            return _chain(links)
        number = len(links) - 1
        for part in _parts(value):
            if is_ordinary(part) and not isinstance(part, (str, bytes, int, float, type(None))):
                queue.append((part, number, _path(path, value, part)))
    return None


def _chain(links: list[tuple[int, str, Any]]) -> list[tuple[str, Any]]:
    number, way = len(links) - 1, []
    while number >= 0:
        parent, path, value = links[number]
        way.append((path, value))
        number = parent
    return way[::-1]


def _named(chain: list[tuple[str, Any]]) -> Owner:
    """Name the handle that the user opened rather than the file inside it."""
    at = next((n for n, (_, value) in enumerate(chain) if handle_kind(value)), len(chain) - 1)
    path, value = chain[at]
    holder = next(
        (v for _, v in reversed(chain[:at]) if not isinstance(v, (dict, list, tuple, CellType))), None
    )
    name = re.split(r"[.\[ ]", path)[-1]
    source = _users_line(chain[: at + 1])
    source = source or (_source(holder, name, value) if holder is not None else "") or _module_line(path)
    return Owner(path, source, handle_kind(value) or "file")


def _users_line(chain: list[tuple[str, Any]]) -> str:
    """Return `file:line` where the user's own class keeps what holds the handle, however deep."""
    for (path, owner), (below, value) in reversed(list(zip(chain, chain[1:]))):
        name = re.match(r"\.(\w+)", below[len(path) :])
        if name and not isinstance(owner, type) and is_users_definition(type(owner)):
            return locate(owner, name.group(1), value)
    return ""


def _source(holder: Any, name: str, value: Any) -> str:
    return class_line(holder, name) if isinstance(holder, type) else locate(holder, name, value)


def _bare_number(fd: int, roots: Mapping[str, Any]) -> Owner | None:
    """Find an attribute or a module variable that holds the descriptor's number."""
    found: list[Owner] = []
    spaces = [(name, vars(root), root) for name, root in roots.items() if hasattr(root, "__dict__")]
    spaces += [(module.__name__, vars(module), None) for module in users_modules()]
    for path, names, holder in spaces:
        for name, value in list(names.items()):
            if type(value) is int and value == fd:
                source = locate(holder, name, value) if holder is not None else _module_line(f"{path}.{name}")
                found.append(Owner(f"{path}.{name}", source, "descriptor"))
    likely = [owner for owner in found if _NAMED_FOR_IT.search(owner.path.rpartition(".")[2])]
    return (likely or found or [None])[0]  # type: ignore[list-item]


def _holder_of_file(fd: int, roots: Mapping[str, Any]) -> Owner | None:
    """Find a library's object that says that it reads the descriptor's file."""
    try:
        file = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    chain = find(roots, lambda value: file in _files_of(value))
    return _named(chain) if chain is not None else None


def _files_of(value: Any) -> list[Any]:
    """Return what an object says of its file."""
    if type(type(value)) is not type or isinstance(value, (dict, list, tuple, FunctionType, type)):
        return []
    found = []
    for name in ("name", "filename"):
        with contextlib.suppress(Exception):  # a property may raise anything
            found.append(getattr(value, name, None))
    return [file for file in found if type(file) is str]


def _fileno(value: Any) -> int:
    if not issubclass(type(value), (io.IOBase, socket.socket)):  # numpy's BagObj refuses `__class__`
        return -1
    try:
        return int(value.fileno())
    except (OSError, ValueError):
        return -1


def _is_entered(value: Any) -> bool:
    if isinstance(value, ModuleType) or (isinstance(value, dict) and "__builtins__" in value):
        return False
    if isinstance(value, (type, FunctionType)):
        return is_users_definition(value)
    return True


def _parts(value: Any) -> list[Any]:
    if isinstance(value, type):
        return [*vars(value).values(), *value.__bases__]
    if isinstance(value, (list, tuple, dict, set, frozenset)) and len(value) > _LONG:
        return list(value.values() if isinstance(value, dict) else value)[:200]
    own = getattr(value, "__dict__", None)
    if type(own) is dict:  # its values, so that the path goes by the attribute and not by a key
        return [*own.values(), *(part for part in gc.get_referents(value) if part is not own)]
    return gc.get_referents(value)


def _path(path: str, owner: Any, part: Any) -> str:
    """Return the path of an object that another one refers to; the same path for what cannot be written."""
    if isinstance(part, type):
        return part.__name__
    if isinstance(owner, FunctionType):
        cells = dict(zip(owner.__code__.co_freevars, owner.__closure__ or ()))
        name = next((name for name, cell in cells.items() if cell is part), "")
        return f"{path} (its variable {name})" if name else path
    if isinstance(owner, _CACHE):
        return f"{path} (its cache)"
    if isinstance(owner, type):
        name = next((name for name, value in vars(owner).items() if value is part), "")
        return f"{path}.{name}" if name else path
    if isinstance(owner, MethodType):
        return path
    return f"{path}{step_to(owner, part) or ''}"


def _module_line(path: str) -> str:
    """Return `file:line` of the assignment of a module's variable."""
    import sys

    from dsrface.runtime.user_code import short_path

    module_name, _, name = path.split(" ", maxsplit=1)[0].rpartition(".")
    module = sys.modules.get(module_name)
    file = str(getattr(module, "__file__", None) or "")
    assignment = re.compile(rf"^\s*(?:async\s+)?(?:def\s+|class\s+)?{re.escape(name)}\s*(?::[^=]+)?[=(:]")
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if assignment.search(line):
                    return f"{short_path(file)}:{number}"
    except OSError:
        pass
    return ""
