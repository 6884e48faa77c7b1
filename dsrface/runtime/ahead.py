"""Work that threads do ahead of whoever uses its results: reading and decoding, which leave Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T], *, num_threads: int, depth: int) -> Iterator[R]:
    """Yield `function` of every item, in order, computed by threads while earlier results are used.

    Args:
        function: Called in a thread; what it raises is raised here, at its item's turn.
        items: Taken as room for them comes.
        num_threads: How many work.
        depth: Results that may wait, which bounds the memory they take.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="dsrface-ahead") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
