"""Hand items to a thread of their own through a short queue, with errors surfacing on the side that feeds."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """A thread that consumes what is put in.

    Args:
        consume: Called once, in the thread, with an iterator over the items.
        depth: Items that may wait; `put` blocks beyond.
    """

    def __init__(self, consume: Callable[[Iterator[T]], None], *, depth: int = 4) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._is_stopped = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dsrface-feed")
        self._future = self._pool.submit(consume, self._items())

    def put(self, item: T) -> None:
        """Hand over an item; raise what the consumer raised."""
        self._put(item)

    def finish(self) -> None:
        """Say that no more comes and wait for the consumer; raise what it raised."""
        self._put(_End())
        self._future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(_End())
        self._pool.shutdown()

    def _put(self, item: T | _End) -> None:
        while True:
            if self._future.done():
                self._future.result()
                raise RuntimeError("the consumer has ended early")
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return

    def _items(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End) and not self._is_stopped:
                return
            if self._is_stopped:
                raise _StoppedError
            yield item  # type: ignore[misc]


class _End:
    """Follows the last item."""


class _StoppedError(Exception):
    """The feeding side has left."""
