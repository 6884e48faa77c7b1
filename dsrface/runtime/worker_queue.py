"""A queue that hands over why a batch could not be sent, where Python's own drops the batch in silence.

A DataLoader worker puts its batches into a queue whose own thread pickles them. What fails there (full shared
memory, too many open files, a batch that cannot be pickled) is printed by Python and forgotten: the main
process waits for that batch until a timeout, and then blames a hang.
"""

from __future__ import annotations

import copy
import functools
import multiprocessing.queues
from multiprocessing.context import BaseContext
from typing import Any

import torch.multiprocessing
from torch._utils import ExceptionWrapper
from torch.utils.data import get_worker_info

from dsrface.runtime.worker_death import SENDING


class TellingQueue(multiprocessing.queues.Queue):  # type: ignore[type-arg]  # takes none at run time
    """A queue of (number, batch) pairs that sends the error in place of a batch that it cannot send."""

    def _on_queue_feeder_error(self, error: BaseException, item: tuple[int, Any]) -> None:
        """Python's hook, called in the feeder thread; concurrent.futures overrides it for the same reason."""
        worker = get_worker_info()
        where = f"in DataLoader worker process {worker.id if worker else '?'} {SENDING}"
        wrapped = ExceptionWrapper(  # type: ignore[no-untyped-call]
            exc_info=(type(error), error, error.__traceback__), where=where
        )
        if wrapped.exc_type.__module__ != "builtins":  # a class that the other side may not be able to import
            wrapped.exc_type = RuntimeError
        self.put((item[0], wrapped))


def telling_context(start_method: str | None) -> BaseContext:
    """Return a multiprocessing context for a DataLoader whose queues are `TellingQueue`s.

    Args:
        start_method: `fork`, `spawn` or `forkserver`; None is this Python's default.
    """
    context: Any = copy.copy(torch.multiprocessing.get_context(start_method))
    context.Queue = functools.partial(TellingQueue, ctx=context)
    return context  # type: ignore[no-any-return]
