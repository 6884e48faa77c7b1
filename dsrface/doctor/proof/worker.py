"""Runs inside a worker: the real loop with the real data set, watched item by item.

`Watcher` is given to the DataLoader as its worker_init_fn. It calls the user's own one, then replaces the
fetchers of torch in this worker alone by ones that write what they load. So `get_worker_info().dataset`, the
collate function and everything else stay what they are.
Source: torch.utils.data._utils.worker._worker_loop makes its fetcher after worker_init_fn (1.13 to 2.14).
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import pickle
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils import fetch as torch_fetch

from dsrface.doctor.proof.evidence import Recorder
from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.proof.handles import HandleWatch, can_watch
from dsrface.doctor.proof.owners import owner_of_descriptor
from dsrface.doctor.proof.seeding import STREAM_KEY, Seeder
from dsrface.doctor.proof.variables import process_state
from dsrface.runtime.user_code import place_of

_FEW = 16  # descriptors that are looked at after each item


@dataclass(frozen=True)
class Plan:
    """What a start of workers is for.

    Args:
        folder: Where evidence goes.
        start: Number of this start.
        num_workers: Workers in it.
        num_natural: First batches of each worker that are loaded without setting the generators.
        is_forked: Watch the descriptors that were open before.
        with_connections: Among them connections.
    """

    folder: str
    start: int
    num_workers: int
    num_natural: int = 0
    is_forked: bool = False
    with_connections: bool = True


class Watcher:
    """The worker_init_fn of a watched worker.

    Args:
        inner: The user's own; may be None.
        plan: What this start is for.
        collate_fn: Travels with the data set and may hold generators.
    """

    def __init__(self, inner: Callable[[int], None] | None, plan: Plan, collate_fn: Any = None) -> None:
        self.inner = inner
        self.plan = plan
        self.collate_fn = collate_fn

    def __call__(self, worker_id: int) -> None:
        """Note the worker's state, run the user's function, and watch from now on."""
        recorder = Recorder(self.plan.folder, f"start{self.plan.start}-{worker_id}")
        watch = (
            HandleWatch(with_connections=self.plan.with_connections)
            if self.plan.is_forked and can_watch()
            else None
        )
        before = generator_states()
        if faulthandler.is_enabled():
            faulthandler.disable()  # torch has just replaced its handlers
            faulthandler.enable()
        if self.inner is not None:
            self.inner(worker_id)
        variables = {} if self.plan.is_forked else process_state()
        recorder(
            "start",
            watched=watch.watched() if watch else 0,
            seeded=_seeded(before),
            variables=variables,
            **_facts(),
        )
        info = get_worker_info()
        dataset = info.dataset if info is not None else None
        fetches = Fetches(self.plan, worker_id, recorder, watch, Seeder([dataset, self.collate_fn]))
        torch_fetch._MapDatasetFetcher.fetch = fetches.of_map  # type: ignore[method-assign]  # noqa: SLF001
        torch_fetch._IterableDatasetFetcher.fetch = fetches.of_stream  # type: ignore[method-assign]  # noqa: SLF001


class Fetches:
    """The fetchers' `fetch`, item by item: set the generators, load, hash, write."""

    def __init__(
        self, plan: Plan, worker_id: int, recorder: Recorder, watch: HandleWatch | None, seeder: Seeder
    ) -> None:
        self.plan = plan
        self.worker_id = worker_id
        self.record = recorder
        self.watch = watch
        self.seed = seeder
        self.owned: set[int] = set()  # moved descriptors whose owners were looked for
        self.num_batches = self.number = 0
        fetches = self

        def of_map(fetcher: Any, keys: Any) -> Any:
            return fetches.watched(fetcher, lambda: fetches.map_items(fetcher, keys), keys)

        def of_stream(fetcher: Any, keys: Any) -> Any:
            return fetches.watched(fetcher, lambda: fetches.stream_items(fetcher, keys), None)

        self.of_map, self.of_stream = of_map, of_stream

    def watched(self, fetcher: Any, load: Callable[[], Any], keys: Any) -> Any:
        """Load one batch, and write what happens."""
        number = self.worker_id + self.num_batches * self.plan.num_workers
        self.is_natural = self.num_batches < self.plan.num_natural
        self.num_batches += 1
        self.number = number
        self.record("batch", number=number, natural=self.is_natural)
        try:
            data = load()
            if not self.is_natural:
                self.seed(("collate", repr(keys)))
            batch = fetcher.collate_fn(data)
        except StopIteration as stop:
            if keys is not None:  # a stream ends like this, an item must not
                self.raised(stop)
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self.raised(error)
            raise
        self.record("sent", digest=fingerprint(batch), moved=self.moved())
        return batch

    def moved(self) -> list[tuple[int, str]]:
        """Return what has moved of the descriptors that were open before."""
        return self.watch.moved() if self.watch is not None else []

    def map_items(self, fetcher: Any, keys: Any) -> Any:
        """Load the items of one batch of a map-style data set."""
        if not fetcher.auto_collation:
            return self.timed(keys, lambda: fetcher.dataset[keys])
        if getattr(fetcher.dataset, "__getitems__", None):
            return self.together(keys, lambda: fetcher.dataset.__getitems__(keys))
        return [self.timed(key, lambda key=key: fetcher.dataset[key]) for key in keys]  # type: ignore[misc]

    def stream_items(self, fetcher: Any, keys: Any) -> Any:
        """Load the next items of a stream, as torch's own fetcher does."""
        if fetcher.ended:
            raise StopIteration
        if not fetcher.auto_collation:
            return self.timed(STREAM_KEY, lambda: next(fetcher.dataset_iter))
        data: list[Any] = []
        for _ in keys:
            try:
                data.append(self.timed(STREAM_KEY, lambda: next(fetcher.dataset_iter)))
            except StopIteration:
                fetcher.ended = True
                break
        if not data or (fetcher.drop_last and len(data) < len(keys)):
            raise StopIteration
        return data

    def timed(self, key: Any, load: Callable[[], Any]) -> Any:
        """Load one item."""
        self.record("begin", at=time.monotonic())
        if not self.is_natural:
            self.seed(key)
        begin = time.perf_counter()
        item = load()
        seconds = time.perf_counter() - begin
        self.record("item", digest=fingerprint(item), s=seconds, at=time.monotonic())
        if self.watch is not None and self.watch.watched() <= _FEW:
            self.name_moved()
        return item

    def name_moved(self) -> None:
        """Write who holds what has moved, at once: workers that read each other's answers may hang next."""
        for descriptor, name in self.moved():
            if descriptor not in self.owned:
                self.owned.add(descriptor)
                owner = owner_of_descriptor(descriptor, {"dataset": self.seed.roots[0]})
                self.record("moved", moved=[(descriptor, name)], owner=asdict(owner) if owner else None)

    def together(self, keys: Any, load: Callable[[], Any]) -> Any:
        """Load the items of a batch in one call, as `__getitems__` has it."""
        self.record("begin", at=time.monotonic())
        if not self.is_natural:
            self.seed(keys)
        begin = time.perf_counter()
        items = load()
        seconds = (time.perf_counter() - begin) / max(1, len(items))
        for item in items:
            self.record("item", digest=fingerprint(item), s=seconds, at=time.monotonic())
        return items

    def raised(self, error: BaseException) -> None:
        """Write what an item raised; whether the exception could travel decides whether the loader waits."""
        try:
            pickle.dumps(type(error))
            travels = True
        except Exception:  # noqa: BLE001 - the answer is no
            travels = False
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.record(
            "raised",
            number=self.number,
            type=type(error).__name__,
            text=str(error)[:2000],
            where=place_of(error),
            traceback=text[-4000:],
            travels=travels,
            moved=self.moved(),
        )


def generator_states() -> dict[str, str]:
    """Return a hash of the state of each global generator."""
    states = {
        "torch": torch.default_generator.get_state().numpy().tobytes(),
        "random": repr(random.getstate()).encode(),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states["numpy"] = repr(numpy.random.get_state()[1:3]).encode() + numpy.random.get_state()[1].tobytes()
    return {name: hashlib.blake2b(state, digest_size=8).hexdigest() for name, state in states.items()}


def _seeded(before: dict[str, str]) -> dict[str, str]:
    """Return the states that the user's worker_init_fn has set."""
    return {name: state for name, state in generator_states().items() if before.get(name) != state}


def _facts() -> dict[str, Any]:
    cv2 = sys.modules.get("cv2")
    return {
        "pid": os.getpid(),
        "torch_threads": torch.get_num_threads(),
        "cv2_threads": cv2.getNumThreads() if cv2 is not None else None,
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }
