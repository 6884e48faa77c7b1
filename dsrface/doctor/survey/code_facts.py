"""Read from code: attributes that items read and other methods set, handles of classes, and `__del__`."""

from __future__ import annotations

import dis
import inspect
import re
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from dsrface.doctor.trace.kinds import CONTRACTS, handle_kind
from dsrface.doctor.trace.members import Member
from dsrface.doctor.trace.paths import class_line, locate
from dsrface.runtime.user_code import is_ordinary, is_users_definition

_READERS = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
_MAKERS = ("__init__", "__new__", "__setstate__", "__post_init__", "setup", *_READERS)
_DESTROYS = {"rmtree", "unlink", "remove", "rmdir", "removedirs", "cleanup", "truncate", "rename", "replace"}
_DEVICE = re.compile(r"cuda|device|accelerator")
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
            values = {**_class_values(type(owner)), **vars(owner)}
            attributes += [
                f"{path}.{name}"
                for name, value in values.items()
                if issubclass(type(value), (int, float, str, tuple))
                and name in read
                and (name in set_later or name in ("epoch", "_epoch"))
            ]
    return [*methods, *sorted(attributes, key=lambda path: "epoch" not in path)]


def read_by_items(roots: Mapping[str, Any]) -> set[str]:
    """Return the names of the attributes that loading an item reads, as far as the user's classes show it."""
    owners = (owner for _, owner in _objects(roots) if is_users_definition(type(owner)))
    return {name for owner in owners for name in _reached(type(owner), _READERS)[0]}


def keyed_by_process(handles: list[Member], roots: Mapping[str, Any]) -> list[Member]:
    """Return the connections that each process makes for itself: items ask for its id.

    Files are none of them: whether workers share their position is seen, not read.
    """
    is_keyed = "getpid" in read_by_items(roots)
    return [member for member in handles if is_keyed and member.kind in CONTRACTS]


def held_by_classes(roots: Mapping[str, Any]) -> list[Member]:
    """Return the handles that loading an item uses from a class or from its module, and no fork may carry.

    They are no members of the data set: the pickler passes them by, and a forked worker inherits them.
    """
    found: dict[int, Member] = {}
    for path, owner in _objects(roots):
        cls = type(owner)
        if not is_users_definition(cls):
            continue
        read, called = _reached(cls, _READERS)
        held = [
            (f"{path}.{name}", class_line(cls, name), value)
            for name, value in _class_values(cls).items()
            if name in read and name not in vars(owner)
        ]
        for function in filter(None, (_function(cls, name) for name in called)):
            held += [
                (f"{function.__module__}.{name}", locate(owner, "", function), function.__globals__[name])
                for name in _globals_of(function)
                if name in function.__globals__
            ]
        for place, source, value in held:
            kind = handle_kind(value) if is_ordinary(value) else ""
            if kind in CONTRACTS:
                found.setdefault(
                    id(value), Member(place, type(value).__qualname__, source, kind=kind, is_hidden=True)
                )
    return list(found.values())


def mentions_device(roots: Mapping[str, Any]) -> bool:
    """Return whether the user's classes name a device, to which they may move what they hold."""
    owners = (type(owner) for _, owner in _objects(roots) if is_users_definition(type(owner)))
    return any(_DEVICE.search(_text_of(cls)) for cls in owners)


def _text_of(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""


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
        function = _function(cls, name)
        if name in done or function is None:
            continue
        done.add(name)
        for instruction in dis.get_instructions(function.__code__):
            if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                found.add(str(instruction.argval))
                todo.append(str(instruction.argval))
    return found, done


def _function(cls: type, name: str) -> FunctionType | None:
    """Return the function behind a method or a property of a class; None for anything else."""
    method = getattr(cls, name, None)
    method = method.fget if isinstance(method, property) else method
    method = getattr(method, "__func__", method)
    return method if isinstance(method, FunctionType) else None


def _globals_of(function: FunctionType) -> set[str]:
    """Return the names of the module's variables that a function reads."""
    instructions = dis.get_instructions(function.__code__)
    return {str(i.argval) for i in instructions if i.opname == "LOAD_GLOBAL"}


def _class_values(cls: type) -> dict[str, Any]:
    """Return what a class and its bases of the user's hold, those of the class last."""
    bases = [base for base in reversed(cls.__mro__) if is_users_definition(base)]
    return {name: value for base in bases for name, value in vars(base).items()}


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
