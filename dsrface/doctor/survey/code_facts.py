"""Read from code: attributes that items read and other methods set, and classes with `__del__`."""

from __future__ import annotations

import dis
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from dsrface.doctor.trace.paths import locate
from dsrface.runtime.user_code import is_ordinary, is_users_definition

_READERS = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
_MAKERS = ("__init__", "__new__", "__setstate__", "__post_init__", "setup", *_READERS)
_DESTROYS = {"rmtree", "unlink", "remove", "rmdir", "removedirs", "cleanup", "truncate", "rename", "replace"}
_MOST_OBJECTS = 2000


def epoch_setters(roots: Mapping[str, Any]) -> list[str]:
    """Return what the main program would call or set between epochs, as paths such as `dataset.set_epoch`.

    These are methods called set_epoch, and members that a public method sets and that loading an item reads;
    those named for an epoch come first.
    """
    methods, attributes = [], []
    for path, owner in _objects(roots):
        if callable(getattr(type(owner), "set_epoch", None)):
            methods.append(f"{path}.set_epoch")
        elif is_users_definition(type(owner)):
            read, called = _reached(type(owner), _READERS)
            _, made = _reached(type(owner), _MAKERS)
            set_later = _stored_by(type(owner), without=called | made)
            own = getattr(owner, "__dict__", None) or {}
            attributes += [
                f"{path}.{name}"
                for name, value in own.items()
                if issubclass(type(value), (int, float, str, tuple))
                and name in read
                and (name in set_later or name in ("epoch", "_epoch"))
            ]
    return [*methods, *sorted(attributes, key=lambda path: "epoch" not in path)]


def read_by_items(roots: Mapping[str, Any]) -> set[str]:
    """Return the names of the attributes that loading an item reads, as far as the user's classes show it."""
    owners = (owner for _, owner in _objects(roots) if is_users_definition(type(owner)))
    return {name for owner in owners for name in _reached(type(owner), _READERS)[0]}


def finalizers(roots: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the paths of members whose class has `__del__`, and of those among them that remove files."""
    found, removing = [], []
    for path, owner in _objects(roots):
        method = getattr(type(owner), "__del__", None)
        if isinstance(method, FunctionType) and is_users_definition(type(owner)):
            place = f"{path}.__del__ ({locate(owner, '__del__', method)})"
            found.append(place)
            names = _reached(type(owner), ("__del__",))[0] | set(method.__code__.co_names)
            if names & _DESTROYS and "getpid" not in names:  # who asks for it acts in one process only
                removing.append(place)
    return found, removing


def _objects(roots: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the roots and the objects that they hold as attributes or in short lists."""
    queue = deque((name, root) for name, root in roots.items() if root is not None)
    seen: set[int] = set()
    while queue and len(seen) < _MOST_OBJECTS:
        path, owner = queue.popleft()
        if id(owner) in seen or not is_ordinary(owner):
            continue
        seen.add(id(owner))
        if hasattr(owner, "__dict__") and not isinstance(owner, (type, FunctionType)):
            yield path, owner
            queue.extend((f"{path}.{name}", value) for name, value in list(vars(owner).items()))
        elif isinstance(owner, (list, tuple)) and len(owner) < 100:
            queue.extend((f"{path}[{number}]", value) for number, value in enumerate(owner))


def _reached(cls: type, names: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Return the attributes that methods load, followed through the class's own methods; and these."""
    todo, done = list(names), set()
    found: set[str] = set()
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
                found.add(str(instruction.argval))
                todo.append(str(instruction.argval))
    return found, done


def _stored_by(cls: type, *, without: set[str]) -> set[str]:
    """Return the attributes that a class's public methods store, some methods left out."""
    found: set[str] = set()
    for base in cls.__mro__[:-1]:
        for name, value in vars(base).items():
            if name in without or name.startswith("_") or not isinstance(value, (FunctionType, property)):
                continue
            function = value.fset if isinstance(value, property) else value
            code = getattr(function, "__code__", None)
            if code is not None:
                found |= {str(i.argval) for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    return found
