"""Put every random generator into a state that follows from an item's key alone.

The same key then draws the same numbers in every process, so that random augmentation can be compared.
What still varies draws from somewhere else: a clock, the operating system, a state of its own.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import torch

from dsrface.runtime.user_code import (
    is_ordinary,
    is_users_definition,
    is_users_module,
    is_users_namespace,
)

STREAM_KEY = "stream"  # items of a stream have no keys: all are loaded under this one
_MOST_OBJECTS = 10_000  # a tenth of a second
_LONG = 1_000
_HEAD = 200
_LOOKS = 3
_ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None), torch.Tensor)


class Seeder:
    """Sets the global generators of random, numpy and torch, and those that the roots hold.

    Args:
        roots: The data set and the functions that go with it.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.roots = list(roots)
        self.generators: list[Any] = []
        self._looks_left = _LOOKS

    def __call__(self, key: object) -> None:
        """Put all of them into the state of a key."""
        self.look()
        text = repr(key).encode("utf-8", "replace")
        seed = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
        seed_globals(seed)
        for generator in self.generators:
            set_state(generator, seed)

    def look(self) -> None:
        """Find the generators that the roots hold; a few times, for they are often made at first use."""
        if self._looks_left:
            self._looks_left -= 1
            self.generators = generators_in(self.roots)


def seed_globals(seed: int) -> None:
    """Seed the global generators of random, numpy and torch.

    Args:
        seed: Below 2**32, for numpy.
    """
    random.seed(seed)
    torch._C.default_generator.manual_seed(seed)  # noqa: SLF001 - torch itself may still be being imported
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


@contextlib.contextmanager
def kept(generators: Iterable[Any] = ()) -> Iterator[None]:
    """Put the global generators, the given ones, and torch's number of threads back to what they were."""
    numpy = sys.modules.get("numpy")
    before = random.getstate(), torch.get_rng_state(), torch.get_num_threads()
    numpy_state = numpy.random.get_state() if numpy is not None else None
    states = [state_of(generator) for generator in generators]
    try:
        yield
    finally:
        random.setstate(before[0])
        torch.set_rng_state(before[1])
        torch.set_num_threads(before[2])
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        for put_back, state in states:
            put_back(state)


@contextlib.contextmanager
def preserved(loader: Any) -> Iterator[None]:
    """Put the generators of a program and of its loader, and its thread settings, back to what they were."""
    held = [getattr(part, "generator", None) for part in (loader, getattr(loader, "sampler", None))]
    with kept(generator for generator in held if isinstance(generator, torch.Generator)):
        yield


def state_of(generator: Any) -> tuple[Callable[[Any], Any], Any]:
    """Return the function that puts a generator into a state, and its state."""
    if hasattr(generator, "bit_generator"):
        bits = generator.bit_generator
        return functools.partial(setattr, bits, "state"), bits.state
    if hasattr(generator, "getstate"):
        return generator.setstate, generator.getstate()
    return generator.set_state, generator.get_state()


def set_state(generator: Any, seed: int) -> None:
    """Seed one generator in place."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif hasattr(generator, "bit_generator"):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    else:
        generator.seed(seed)


def is_generator(value: Any) -> bool:
    """Return whether a value is a random generator with a state of its own."""
    if isinstance(value, random.Random):
        return value is not random._inst and not isinstance(value, random.SystemRandom)  # noqa: SLF001
    if isinstance(value, torch.Generator):
        return value is not torch.default_generator and value.device.type == "cpu"
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    if isinstance(value, numpy.random.RandomState):
        return value is not numpy.random.mtrand._rand  # noqa: SLF001
    return isinstance(value, numpy.random.Generator)


def generators_in(roots: Iterable[Any]) -> list[Any]:
    """Return the generators that can be reached from the roots and from the user's own modules."""
    return [value for value in reachable(roots) if is_generator(value)]


def reachable(roots: Iterable[Any]) -> Iterable[Any]:
    """Yield every object below the roots and the user's modules, breadth first; very long containers in part.

    Modules, classes and functions that belong to installed packages are not entered.
    """
    queue = [*roots, *(vars(module) for module in users_modules())]
    seen = {id(value) for value in queue}
    for value in queue:  # grows while it is walked
        if not is_ordinary(value):
            continue
        yield value
        if len(queue) >= _MOST_OBJECTS or isinstance(value, _ATOMS) or not _is_entered(value):
            continue
        if isinstance(value, (list, tuple, dict, set, frozenset)) and len(value) > _LONG:
            parts: list[Any] = list(value.values() if isinstance(value, dict) else value)[:_HEAD]
        else:
            parts = gc.get_referents(value)
        for part in parts:
            if id(part) not in seen and not issubclass(type(part), _ATOMS):
                seen.add(id(part))
                queue.append(part)


def users_modules() -> list[ModuleType]:
    """Return the loaded modules whose file is the user's own."""
    return [
        module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType)  # type: ignore[redundant-expr]  # any object may stand there
        and is_users_module(module)
    ]


def _is_entered(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return False
    if isinstance(value, dict) and "__builtins__" in value:
        return is_users_namespace(value)
    if isinstance(value, (type, FunctionType)):
        return is_users_definition(value)
    return True
