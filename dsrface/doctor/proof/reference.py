"""What this process loads for the same keys, under the same state of all generators and one thread."""

from __future__ import annotations

import collections
import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils import worker as torch_worker
from torch.utils.data._utils.collate import default_convert

from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.proof.seeding import STREAM_KEY, Seeder
from dsrface.doctor.targets import Target

_SHORT = 1000


class Reference:
    """Loads in this process what workers load.

    Args:
        target: The target; torch gets one thread from here on, as in a worker.
    """

    def __init__(self, target: Target) -> None:
        torch.set_num_threads(1)
        self.target = target
        self.has_ended = False
        self.seed = Seeder([target.dataset, target.collate_fn])
        self._fresh: Any = None

    def remember(self) -> None:
        """Simulate workers from now on with the data set as it is now: what a pass leaves in it, none has."""
        self._fresh = _copied(self.target.dataset)

    def items(self, keys: Any) -> list[Any]:
        """Load the items of one batch of keys (or the one of a single key)."""
        dataset = self.target.dataset
        if not self.target.is_batched:
            self.seed(keys)
            return [dataset[keys]]
        if getattr(dataset, "__getitems__", None):
            self.seed(keys)
            return list(dataset.__getitems__(keys))
        return [self.item(key) for key in keys]

    def item(self, key: Any) -> Any:
        """Load one item."""
        self.seed(key)
        return self.target.dataset[key]

    def digests(self, keys: Any) -> list[str]:
        """Return the fingerprints of the items of a batch, each taken before the next is loaded."""
        if self.target.is_batched and not getattr(self.target.dataset, "__getitems__", None):
            return [fingerprint(self.item(key)) for key in keys]
        return [fingerprint(item) for item in self.items(keys)]

    def batch(self, keys: Any) -> Any:
        """Load and collate a batch."""
        items = self.items(keys)
        self.seed(("collate", repr(keys)))
        if not self.target.is_batched:
            return (self.target.collate_fn or default_convert)(items[0])
        return (self.target.collate_fn or default_collate)(items)

    def stream(
        self, count: int, *, worker: int | None = None, num_workers: int = 1, limit_s: float = 60.0
    ) -> list[str]:
        """Return the fingerprints of the first items of a stream, alone or as a worker would get them.

        Sets `has_ended`: whether the stream ended by itself.
        """
        self.seed.look()  # takes a while in a large process, and is no time of the stream
        until = time.monotonic() + limit_s
        self.has_ended = True
        dataset = self.target.dataset if worker is None or self._fresh is None else self._fresh
        found: list[str] = []
        with as_worker(dataset, worker, num_workers) as seen:
            init = self.target.worker_init_fn
            if worker is not None and init is not None:
                init(worker)
            iterator = iter(seen)
            with suppress(StopIteration):
                while True:
                    self.seed(STREAM_KEY)
                    item = next(iterator)
                    if len(found) == count or time.monotonic() > until:
                        self.has_ended = False
                        return found
                    found.append(fingerprint(item))
        return found


@contextmanager
def as_worker(dataset: Any, worker: int | None, num_workers: int) -> Iterator[Any]:
    """Let `get_worker_info()` say that this is a worker, with a copy of the data set that it may change."""
    if worker is None:
        yield dataset
        return
    own = _copied(dataset)
    before = torch_worker._worker_info  # noqa: SLF001 - torch has no other way to say it
    torch_worker._worker_info = torch_worker.WorkerInfo(  # noqa: SLF001
        id=worker, num_workers=num_workers, seed=0, dataset=own
    )
    try:
        yield own
    finally:
        torch_worker._worker_info = before  # noqa: SLF001


def _copied(dataset: Any) -> Any:
    """Return a copy of a data set whose short containers are its own."""
    own = copy.copy(dataset)
    for name, value in getattr(own, "__dict__", {}).items():
        if type(value) in (list, dict, set, collections.deque) and len(value) <= _SHORT:
            own.__dict__[name] = copy.copy(value)
    return own
