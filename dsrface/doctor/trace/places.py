"""Where the state of a data set is held: every member below it by path, with the place to set it back."""

from __future__ import annotations

import copy
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch

from dsrface.doctor.proof.seeding import is_generator, users_modules
from dsrface.doctor.sizing.measure import spread_indices
from dsrface.doctor.trace.paths import slots_of
from dsrface.runtime.user_code import is_ordinary, is_users_definition, is_users_module

FEW = 64
MOST_PATHS = 4000  # that are looked at in one walk
SAMPLED = 32  # of a longer list: where it is as long as the data set, those of the items that are loaded
SCALARS = (bool, int, float, str, bytes, type(None))
SIZED = (list, dict, set, deque, bytearray)
_DEEPEST = 5


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
        return self.owner[self.name] if self._is_container else getattr(self.owner, self.name)

    @property
    def _is_container(self) -> bool:
        return isinstance(self.owner, (dict, list, tuple))

    def saved(self) -> Any:
        """Return a copy of the member, to be put back later."""
        value = self.get()
        return value.clone() if isinstance(value, torch.Tensor) else copy.copy(value)

    def put_back(self, saved: Any) -> None:
        """Give the member its saved value again, in place where it is a container or an array."""
        value = self.get()
        if isinstance(value, torch.Tensor):
            value.copy_(saved)
        elif hasattr(value, "__array_interface__"):
            value[...] = saved
        elif isinstance(value, SIZED):
            refill(value, saved)
        else:
            self.set(saved)

    def set(self, value: Any) -> None:
        """Set the member."""
        if self._is_container:
            self.owner[self.name] = value
        else:
            setattr(self.owner, self.name, value)


def refill(container: Any, saved: Any) -> None:
    """Give a container the entries of a copy of it, in place."""
    if isinstance(container, (list, bytearray)):
        container[:] = saved
    elif isinstance(container, deque):
        container.clear()
        container.extend(saved)
    else:
        container.clear()
        container.update(saved)


def members(roots: Mapping[str, Any]) -> Iterator[tuple[str, Place, Any]]:
    """Yield path, place and value of members, breadth first; of long lists some elements, no long dicts.

    Then those of objects of the user's that module variables refer to.
    """
    yield from _module_variables()
    seen: set[int] = set()
    for starts in (roots, module_objects()):
        queue: deque[tuple[str, Any, int]] = deque(
            (name, root, 0) for name, root in starts.items() if root is not None
        )
        while queue:
            path, owner, depth = queue.popleft()
            if id(owner) in seen or depth > _DEEPEST:
                continue
            seen.add(id(owner))
            for step, place, value in _entries(owner):
                if not is_ordinary(value):
                    continue
                yield f"{path}{step}", place, value
                if not isinstance(value, (*SCALARS, torch.Tensor, type)) and not _is_synchronising(value):
                    queue.append((f"{path}{step}", value, depth + 1))
            yield from _class_entries(owner)


def _module_variables() -> Iterator[tuple[str, Place, Any]]:
    """Yield variables of the user's modules that are state of their own, and what functions there keep."""
    for module in users_modules():
        for key, value in list(vars(module).items()):
            if type(value) is FunctionType and value.__module__ == module.__name__:
                yield from _function_entries(f"{module.__name__}.{key}", value)
            if (
                is_ordinary(value)
                and not key.startswith("__")
                and (
                    isinstance(value, (*SCALARS, *SIZED))
                    or is_generator(value)
                    or hasattr(value, "cache_info")
                )
            ):
                yield f"{module.__name__}.{key}", Place(vars(module), key), value


def module_objects() -> dict[str, Any]:
    """Return the objects of the user's own classes, and of `threading.local`, in module variables."""
    return {
        f"{module.__name__}.{key}": value
        for module in users_modules()
        for key, value in list(vars(module).items())
        if is_ordinary(value)  # first: a stand-in raises even when its class is asked for
        and (isinstance(value, threading.local) or is_users_definition(type(value)))
        and not isinstance(value, (torch.nn.Module, type))
    }


def _is_synchronising(value: Any) -> bool:
    """Return whether an object is a lock or the like: its waiting threads are no state, and must stay so."""
    return type(value).__module__.partition(".")[0] in ("threading", "multiprocessing")


def _entries(owner: Any) -> Iterator[tuple[str, Place, Any]]:
    if isinstance(owner, dict):
        if len(owner) <= FEW:
            for key, value in list(dict.items(owner)):  # a class of its own may have another
                yield f"[{key!r}]", Place(owner, key), value
    elif isinstance(owner, (list, tuple)):
        numbers = range(len(owner)) if len(owner) <= FEW else spread_indices(len(owner), SAMPLED)
        for index in numbers:
            value = owner[index]
            if not isinstance(value, SCALARS):
                yield f"[{index}]", Place(owner, index), value
    elif isinstance(owner, FunctionType):
        yield from _function_entries("", owner)
    elif not isinstance(owner, (type, torch.Tensor)):
        for name, value in list((getattr(owner, "__dict__", None) or {}).items()):
            yield f".{name}", Place(owner, name), value
        for name in slots_of(type(owner)) if is_users_definition(type(owner)) else ():
            if hasattr(owner, name):
                yield f".{name}", Place(owner, name), getattr(owner, name)


def _function_entries(path: str, function: FunctionType) -> Iterator[tuple[str, Place, Any]]:
    """Yield a function's own attributes, and its mutable defaults, which live as long as it does."""
    for name, value in list(vars(function).items()):
        if isinstance(value, (*SCALARS, *SIZED)):
            yield f"{path}.{name}", Place(vars(function), name), value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        value = _content_of(cell)
        if isinstance(value, (*SCALARS, *SIZED)):
            yield f"{path}({name})", Place(cell, "cell_contents"), value
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(defaults) :]
    for number, (name, value) in enumerate(zip(names, defaults)):
        if isinstance(value, SIZED):
            yield f"{path}({name}=...)", Place(defaults, number), value


def _content_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that was not set yet
        return NotImplemented


def _class_entries(owner: Any) -> Iterator[tuple[str, Place, Any]]:
    """Yield mutable attributes and counters of the owner's class, cached methods, and what methods keep."""
    for cls in type(owner).__mro__[:-1]:
        module = sys.modules.get(cls.__module__)
        if not is_users_module(module):
            continue
        for name, value in list(vars(cls).items()):
            if not is_ordinary(value):
                continue
            if type(value) is FunctionType:
                yield from _function_entries(f"{cls.__name__}.{name}", value)
            is_state = isinstance(value, (int, float, type(None), *SIZED)) or is_generator(value)
            if not name.startswith("__") and (is_state or hasattr(value, "cache_info")):
                yield f"{type(owner).__name__}.{name}", Place(type(owner), name), value
