"""Read from code: attributes that items read and other methods set, and classes with `__del__`."""

from __future__ import annotations

import dis
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from dsrface.doctor.trace.paths import locate
from dsrface.runtime.user_code import is_users

_READERS = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
_MAKERS = ("__init__", "__new__", "__setstate__", "__post_init__", "setup", *_READERS)
_DESTROYS = {"rmtree", "unlink", "remove", "rmdir", "removedirs", "cleanup", "truncate", "rename", "replace"}
_MOST_OBJECTS = 2000


def epoch_setters(roots: Mapping[str, Any]) -> list[str]:
    """Return what the main program would call or set between epochs, as paths such as `dataset.set_epoch`.

    These are methods called set_epoch, and whole numbers that a method other than the constructor sets and
    that loading an item reads.
    """
    methods, attributes = [], []
    for path, owner in _objects(roots):
        if callable(getattr(type(owner), "set_epoch", None)):
            methods.append(f"{path}.set_epoch")
        elif _is_ours(type(owner)):
            read = _reached(type(owner), _READERS, stores=False)
            set_later = _stored_elsewhere(type(owner))
            own = getattr(owner, "__dict__", None) or {}
            attributes += [
                f"{path}.{name}"
                for name, value in own.items()
                if type(value) is int and name in read and (name in set_later or name in ("epoch", "_epoch"))
            ]
    return methods or attributes


def finalizers(roots: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the paths of members whose class has `__del__`, and of those among them that remove files."""
    found, removing = [], []
    for path, owner in _objects(roots):
        method = getattr(type(owner), "__del__", None)
        if isinstance(method, FunctionType) and _is_ours(type(owner)):
            place = f"{path}.__del__ ({locate(owner, '__del__', method)})"
            found.append(place)
            names = _reached(type(owner), ("__del__",), stores=False) | set(method.__code__.co_names)
            if names & _DESTROYS:
                removing.append(place)
    return found, removing


def _objects(roots: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the roots and the objects that they hold as attributes or in short lists."""
    queue = deque((name, root) for name, root in roots.items() if root is not None)
    seen: set[int] = set()
    while queue and len(seen) < _MOST_OBJECTS:
        path, owner = queue.popleft()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        if hasattr(owner, "__dict__") and not isinstance(owner, (type, FunctionType)):
            yield path, owner
            queue.extend((f"{path}.{name}", value) for name, value in list(vars(owner).items()))
        elif isinstance(owner, (list, tuple)) and len(owner) < 100:
            queue.extend((f"{path}[{number}]", value) for number, value in enumerate(owner))


def _is_ours(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    return cls.__module__ == "__main__" or is_users(str(getattr(module, "__file__", None) or ""))


def _reached(cls: type, names: tuple[str, ...], *, stores: bool) -> set[str]:
    """Return the attributes that methods load (or store), followed through the class's own methods."""
    todo, done, found = list(names), set(), set()
    while todo:
        name = todo.pop()
        method = getattr(cls, name, None)
        method = method.fget if isinstance(method, property) else method
        code = getattr(method, "__code__", None)
        if name in done or code is None:
            continue
        done.add(name)
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                found |= set() if stores else {str(instruction.argval)}
                todo.append(str(instruction.argval))
            elif instruction.opname == "STORE_ATTR" and stores:
                found.add(str(instruction.argval))
    return found


def _stored_elsewhere(cls: type) -> set[str]:
    found: set[str] = set()
    for base in cls.__mro__[:-1]:
        for name, value in vars(base).items():
            if name in _MAKERS or not isinstance(value, (FunctionType, property)):
                continue
            function = value.fset if isinstance(value, property) else value
            code = getattr(function, "__code__", None)
            if code is not None:
                found |= {str(i.argval) for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    return found
