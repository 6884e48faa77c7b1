"""Members as they were at one moment, so that what was opened or counted since does not reach new workers.

Workers that start with a training get its data set as it was made. Where this process has loaded items
meanwhile, as a loop with num_workers=0 does, a handle that is opened at first use is open here: forked
workers would share it, and spawned ones could not get it. So the members are put back first.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import CellType
from typing import Any

from dsrface.doctor.proof.seeding import is_generator, state_of
from dsrface.doctor.trace.paths import slots_of
from dsrface.doctor.trace.places import (
    FEW,
    MOST_PATHS,
    SCALARS,
    SIZED,
    Place,
    members,
    module_objects,
    refill,
)
from dsrface.runtime.user_code import is_users_definition

Undo = Callable[[], Any]


class Snapshot:
    """What the members below some roots, and the user's module variables, refer to at this moment.

    What they refer to is not copied: the content of arrays and of containers of more than 64 entries stays as
    it is, and so does the position of a file that is open already.

    Args:
        roots: Name to object, e.g. `{"dataset": ..., "collate_fn": ...}`.
    """

    def __init__(self, roots: Mapping[str, Any]) -> None:
        self._savers = list(_savers(roots))
        self._undo = self._save()

    def _save(self) -> list[Undo]:
        undo = []
        for save in self._savers:
            with contextlib.suppress(Exception):  # a user's class may refuse it; then that member stays
                undo.append(save())
        return undo

    def put_back(self) -> None:
        """Put the members back to what they were at the snapshot."""
        _run(self._undo)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Put the members back for a while; afterwards they are what they were before that."""
        now = self._save()
        self.put_back()
        try:
            yield
        finally:
            _run(now)


@contextlib.contextmanager
def unchanged(roots: Mapping[str, Any]) -> Iterator[None]:
    """Put the members below some roots back to what they were, afterwards."""
    before = Snapshot(roots)
    try:
        yield
    finally:
        before.put_back()


def _run(undo: list[Undo]) -> None:
    for put_back in undo:
        with contextlib.suppress(Exception):
            put_back()


def _savers(roots: Mapping[str, Any]) -> Iterator[Callable[[], Undo]]:
    """Yield functions, each of which saves one part and returns what puts it back."""
    for root in (*roots.values(), *module_objects().values()):
        yield from _savers_of_object(root)
    for _, place, value in islice(members(roots), MOST_PATHS):
        if isinstance(value, SCALARS):
            if isinstance(place.owner, (type, CellType, dict)):
                yield partial(_save_reference, place)
        elif isinstance(value, SIZED):
            if len(value) <= FEW:
                yield partial(_save_entries, value)
        elif is_generator(value):
            yield partial(_save_generator, value)
        elif callable(getattr(value, "cache_clear", None)):
            yield partial(_save_cache, value)
        else:
            yield from _savers_of_object(value)


def _savers_of_object(value: Any) -> Iterator[Callable[[], Undo]]:
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        yield partial(_save_entries, attributes)
    for name in slots_of(type(value)) if is_users_definition(type(value)) else ():
        yield partial(_save_slot, value, name)


def _save_reference(place: Place) -> Undo:
    return partial(place.set, place.get())


def _save_entries(container: Any) -> Undo:
    return partial(refill, container, copy.copy(container))


def _save_slot(owner: Any, name: str) -> Undo:
    if not hasattr(owner, name):
        return partial(delattr, owner, name)
    return partial(object.__setattr__, owner, name, getattr(owner, name))


def _save_generator(generator: Any) -> Undo:
    put_back, state = state_of(generator)
    return partial(put_back, state)


def _save_cache(function: Any) -> Undo:
    """Save a `functools.lru_cache`: what it holds cannot be set, only that it holds nothing."""
    return (lambda: None) if function.cache_info().currsize else function.cache_clear
