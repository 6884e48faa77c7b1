"""Find every member of a data set that cannot travel to a worker, by its path, in one pass.

The real pickler stops at the first fault and names a type, not a place. This one is the pure-Python pickler
with torch's own dispatch table; it keeps the stack of objects, swallows a fault at the deepest object, notes
the path and goes on. Tensors and arrays are noted, never descended into, so no memory is shared and no CUDA
is touched. Nothing is written: bytes are only counted.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import random
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
import torch.multiprocessing

from dsrface.doctor.sizing.memory import tensor_bytes
from dsrface.doctor.trace.kinds import (
    fault_kind,
    handle_kind,
    held_kind,
    module_kind,
    repeats_in_workers,
)
from dsrface.doctor.trace.members import Member, Trace
from dsrface.doctor.trace.paths import down_to_held, locate, render

_BIG_CONTAINER = 10_000
_HEAD, _RANDOM = 200, 300
_TENSOR_PICKLE_BYTES = 400  # a tensor travels as a file descriptor and a little metadata
_CONTRIBUTOR_BYTES = 1024
_ATOMS = (type(None), bool, int, float, complex)
_TEXTS = (str, bytes, bytearray)


def trace(
    roots: dict[str, Any],
    *,
    device_of: Callable[[torch.Tensor], str] | None = None,
    deadline_s: float = 5.0,
) -> Trace:
    """Walk what a DataLoader sends to its workers.

    Args:
        roots: Name to object, e.g. `{"dataset": ..., "collate_fn": ...}`.
        device_of: Device name of a tensor; tests let `meta` stand in for CUDA.
        deadline_s: The walk stops then and says so in `is_truncated`.
    """
    start = time.perf_counter()
    tracer = _Tracer(device_of or (lambda tensor: str(tensor.device)), start + deadline_s)
    with _as_if_spawning(), _deep_recursion():
        for name, root in roots.items():
            if root is not None:
                tracer.walk(name, root)
    result = tracer.finish()
    result.duration_s = time.perf_counter() - start
    return result


class _DeadlineError(Exception):
    pass


_PurePickler: Any = pickle._Pickler  # noqa: SLF001 - no other one lets us in


class _Tracer(_PurePickler):  # type: ignore[misc]
    def __init__(self, device_of: Callable[[torch.Tensor], str], deadline: float) -> None:
        super().__init__(self, protocol=None)
        self.dispatch_table = ForkingPickler(io.BytesIO()).dispatch_table
        self.result = Trace()
        self._device_of = device_of
        self._deadline = deadline
        self._random = random.Random(0)
        self._stack: list[Any] = []
        self._root = ""
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._watched: list[tuple[weakref.ref[Any], Member]] = []
        self._customised: list[tuple[str, Any]] = []
        self._noted: set[int] = set()
        self._weight = 1.0  # how many objects the one being saved stands for
        self._counted = 0.0
        self._inner_bytes: list[float] = []

    # The pickler writes into its tracer, which only counts.
    def write(self, data: Any) -> int:
        self._counted += len(data) * self._weight
        return len(data)

    def walk(self, name: str, root: Any) -> None:
        self._root = name
        try:
            self.save(root)
        except _DeadlineError:
            self.result.is_truncated = True
        finally:
            self._stack.clear()

    def finish(self) -> Trace:
        result = self.result
        result.pickle_bytes = int(self._counted)
        for path, owner in self._customised:
            self._note_hidden(path, owner)
        self._customised.clear()
        self._seen.clear()
        self.clear_memo()
        gc.collect()
        result.temporary = [member for ref, member in self._watched if ref() is None]
        result.contributors = sorted(result.contributors, key=lambda member: -member.bytes)[:5]
        return result

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:  # noqa: FBT001, FBT002 - the base class's
        if type(obj) in _ATOMS:
            self.result.num_objects += 0 if type(obj) in (type(None), bool) else int(self._weight)
            super().save(obj, save_persistent_id)
            return
        if time.perf_counter() > self._deadline:
            raise _DeadlineError
        self._stack.append(obj)
        self._inner_bytes.append(0.0)
        before = self._counted
        try:
            self.result.num_objects += int(self._weight)
            if type(obj) not in _TEXTS:
                self._note(obj)
            if isinstance(obj, torch.Tensor):
                self._counted += _TENSOR_PICKLE_BYTES * self._weight
            elif _is_array(obj) and obj.dtype != object:
                self._save_array(obj)
            elif type(obj) in (list, tuple, dict, set, frozenset, deque) and len(obj) > _BIG_CONTAINER:
                self._save_sample(obj)
            else:
                super().save(obj, save_persistent_id)
        except _DeadlineError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a reducer raises is the finding
            self._note_fault(obj, error)
        finally:
            self._attribute_bytes(self._counted - before)
            self._stack.pop()

    def _save_array(self, array: Any) -> None:
        if id(array) not in self._noted:
            self._noted.add(id(array))
            self._keep(array)
            self._counted += array.nbytes * self._weight

    def _save_sample(self, container: Any) -> None:
        """Save 500 of a large container's items and count them for all."""
        if id(container) in self.memo:
            return
        self.memoize(container)
        self.result.is_sampled = True
        items = list(container.items()) if isinstance(container, dict) else list(container)
        chosen = items[:_HEAD] + self._random.sample(items[_HEAD:], _RANDOM)
        outer = self._weight
        self._weight = outer * len(items) / len(chosen)
        try:
            for item in chosen:
                if isinstance(container, dict):
                    self.save(item[0])
                    self.save(item[1])
                else:
                    self.save(item)
        finally:
            self._weight = outer

    def _note(self, obj: Any) -> None:
        if isinstance(obj, torch.Tensor):
            self._note_tensor(obj)
        elif isinstance(obj, torch.nn.Module):
            self._note_module(obj)
        elif _is_array(obj) and type(obj).__name__ == "memmap":
            self.result.memmaps.append(self._member(obj, kind="memmap", bytes=obj.nbytes))
        kind = handle_kind(obj)
        if kind and not self._is_known(obj):
            self.result.handles.append(self._member(obj, kind=kind))
        if repeats_in_workers(obj) and not self._is_known(obj):
            self.result.rngs.append(self._member(obj, kind="rng"))
        if getattr(obj, "__module__", None) == "__main__" and (isinstance(obj, type) or callable(obj)):
            self.result.in_main.append(self._member(obj, kind="main"))
        if hasattr(obj, "__dict__") and not isinstance(obj, (type, torch.nn.Module, torch.Tensor)):
            hooks = ("__getstate__", "__reduce__", "__reduce_ex__")
            if any(getattr(type(obj), hook, None) is not getattr(object, hook, None) for hook in hooks):
                self._customised.append((self._path(), obj))

    def _note_tensor(self, tensor: torch.Tensor) -> None:
        if id(tensor) in self._seen and self._seen[id(tensor)]() is tensor:
            return
        num_bytes = tensor_bytes(tensor)
        member = self._member(tensor, bytes=num_bytes, device=self._device_of(tensor))
        reference = weakref.ref(tensor)
        self._seen[id(tensor)] = reference
        if member.is_on_gpu:
            self.result.device.append(member)
        if tensor.requires_grad:
            self.result.grads.append(member)
        if tensor.requires_grad and not tensor.is_leaf:
            member.kind = "non-leaf"
            member.error = "RuntimeError: Cowardly refusing to serialize non-leaf tensor which requires_grad"
            self.result.non_leaf.append(member)
        elif member.device == "cpu":
            member.kind = "temporary"
            self._watched.append((reference, member))

    def _note_module(self, module: torch.nn.Module) -> None:
        if any(isinstance(outer, torch.nn.Module) for outer in self._stack[:-1]) or self._is_known(module):
            return
        tensors = [*module.parameters(), *module.buffers()]
        devices = sorted({self._device_of(tensor) for tensor in tensors})
        size = sum(map(tensor_bytes, tensors))
        if tensors:
            self.result.modules.append(
                self._member(module, kind=module_kind(module), bytes=size, device=", ".join(devices))
            )

    def _note_fault(self, obj: Any, error: BaseException) -> None:
        if self._is_known(obj, "fault"):
            return
        text = f"{type(error).__name__}: {error}"
        stack = down_to_held(self._stack)
        kind = fault_kind(obj, text) if stack[-1] is obj else held_kind(stack[-1], obj, text)
        path, owner, name = render(self._root, stack)
        if any(path == member.path for member in self.result.unpicklable):
            return
        source = locate(owner, name, stack[-1])
        self.result.unpicklable.append(Member(path, _type_name(stack[-1]), source, text, kind))

    def _note_hidden(self, path: str, owner: Any) -> None:
        """Note what the owner's __getstate__ keeps from the pickler; a forked worker inherits it."""
        for name, value in list(vars(owner).items()):
            kind, group = handle_kind(value), self.result.handles
            if not kind and repeats_in_workers(value):
                kind, group = "rng", self.result.rngs
            if kind and not self._is_known(value):
                source = locate(owner, name, value)
                group.append(Member(f"{path}.{name}", _type_name(value), source, kind=kind, is_hidden=True))
            elif isinstance(value, torch.nn.Module) and not self._is_known(value):
                self._note_hidden_tensors(
                    f"{path}.{name}", owner, name, [*value.parameters(), *value.buffers()]
                )
            elif isinstance(value, torch.Tensor) and id(value) not in self._seen:
                self._note_hidden_tensors(f"{path}.{name}", owner, name, [value])

    def _note_hidden_tensors(self, path: str, owner: Any, name: str, tensors: list[torch.Tensor]) -> None:
        value = getattr(owner, name)
        member = Member(path, _type_name(value), locate(owner, name, value), is_hidden=True)
        member.device = ", ".join(sorted({self._device_of(tensor) for tensor in tensors}))
        member.bytes = sum(map(tensor_bytes, tensors))
        if isinstance(value, torch.nn.Module) and tensors:
            member.kind = module_kind(value)
            self.result.modules.append(member)
        if member.is_on_gpu:
            self.result.device.append(member)

    def _is_known(self, obj: Any, what: str = "") -> bool:
        key = hash((id(obj), what))
        if key in self._noted:
            return True
        self._noted.add(key)
        self._keep(obj)
        return False

    def _keep(self, obj: Any) -> None:
        """Hold the object until the walk ends, so that no other one gets its id."""
        self.memo.setdefault(-id(obj) - 1, (0, obj))

    def _member(
        self, obj: Any, *, kind: str = "", error: str = "", bytes: int = 0, device: str = ""
    ) -> Member:
        path, owner, name = render(self._root, self._stack)
        return Member(path, _type_name(obj), locate(owner, name, obj), error, kind, bytes, device)

    def _path(self) -> str:
        return render(self._root, self._stack)[0]

    def _attribute_bytes(self, inclusive: float) -> None:
        """Credit an object with its own bytes, without those its large parts are credited with."""
        exclusive = inclusive - self._inner_bytes.pop()
        credited = exclusive >= _CONTRIBUTOR_BYTES and self._weight == 1.0
        if credited and self._stack:
            obj = self._stack[-1]
            path = render(self._root, self._stack)[0]
            self.result.contributors.append(Member(path, _type_name(obj), bytes=int(exclusive)))
        if self._inner_bytes:
            self._inner_bytes[-1] += inclusive if credited else inclusive - exclusive


class _SpawnStandIn:
    """Stands where a starting process would, for members that may only be inherited by one."""

    @staticmethod
    def duplicate_for_child(descriptor: int) -> int:
        return descriptor

    @staticmethod
    def DupFd(descriptor: int) -> int:  # noqa: N802 - the name that multiprocessing looks up
        return descriptor


@contextlib.contextmanager
def _as_if_spawning() -> Iterator[None]:
    before = context.get_spawning_popen()
    context.set_spawning_popen(_SpawnStandIn())  # type: ignore[arg-type]
    try:
        yield
    finally:
        context.set_spawning_popen(before)


@contextlib.contextmanager
def _deep_recursion() -> Iterator[None]:
    """Three Python frames stand for one level of the C pickler."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 6000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _is_array(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, numpy.ndarray)


def _type_name(obj: Any) -> str:
    kind = obj if isinstance(obj, type) else type(obj)
    return f"{kind.__module__}.{kind.__qualname__}"
