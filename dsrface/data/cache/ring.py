"""A few batches that are used over and over, filled by one thread while the training step runs.

A batch of fresh memory costs thousands of page faults, five times the copy itself; reused memory costs none.
And a thread that makes few long calls, all outside the interpreter lock, is not held up by a busy one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dsrface.runtime.devices import recorded_event
from dsrface.types import Batch

DEPTH = 3


class Ring:
    """Buffers for batches, and the thread that fills them.

    Args:
        batch_size: Images per batch at most.
        shape: Of one image; inputs and HR twins have the same.
        device: Where the batches will be used; for CUDA the memory is pinned.
    """

    def __init__(self, *, batch_size: int, shape: tuple[int, int, int], device: str) -> None:
        self._device = device
        self._is_cuda = device.startswith("cuda")
        self._batch_size = batch_size
        self._shape = shape
        self._buffers: list[Batch] = []

    def buffer(self, number: int, size: int) -> Batch:
        """Return the first `size` images of a buffer."""
        if size > self._batch_size:
            raise ValueError(f"{size} images do not fit in a buffer of {self._batch_size}")
        while len(self._buffers) <= number:
            self._buffers.append(self._new_buffer())
        whole = self._buffers[number]
        return Batch(whole.inputs[:size], whole.high[:size], whole.labels[:size], whole.indices)

    def run(self, produce: Callable[[Callable[[int], Batch]], Iterator[Batch]]) -> Iterator[Batch]:
        """Yield what `produce` yields, made one or two batches ahead by a thread.

        Args:
            produce: Takes a function that gives a free buffer of some size, and yields it filled.
        """
        # With its number: in another thread, plain "cuda" would be another device.
        cuda_device = torch.cuda.current_stream(self._device).device if self._is_cuda else None
        state = _Flight(self, cuda_device)
        thread = threading.Thread(target=state.fill, args=(produce,), name="dsrface-ring", daemon=True)
        torch.get_num_threads()  # this thread's number is fixed before the other thread sets its own
        thread.start()
        try:
            yield from state.drain()
        finally:
            state.stop()
            thread.join()
            if cuda_device is not None:  # the next epoch begins with every buffer free
                torch.cuda.current_stream(cuda_device).synchronize()

    def _new_buffer(self) -> Batch:
        def empty(*shape: int, dtype: torch.dtype) -> Tensor:
            # Zeroed, so that its pages are there before the first batch is timed.
            return torch.zeros(shape, dtype=dtype, pin_memory=self._is_cuda)

        size = self._batch_size
        return Batch(
            empty(size, *self._shape, dtype=torch.uint8),
            empty(size, *self._shape, dtype=torch.uint8),
            empty(size, dtype=torch.int64),
            torch.empty(0, dtype=torch.int64),  # indices are new for every batch
        )


class _Flight:
    """One epoch's traffic between the filling thread and the consumer."""

    def __init__(self, ring: Ring, cuda_device: torch.device | None) -> None:
        self._ring = ring
        self._cuda_device = cuda_device
        # A free buffer comes with the event after which the device no longer reads from it.
        self._free: queue.SimpleQueue[tuple[int, torch.cuda.Event | None] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[int, Batch] | BaseException | None] = queue.SimpleQueue()
        self._current = -1
        self._is_stopped = False
        for number in range(DEPTH):
            self._free.put((number, None))

    def fill(self, produce: Callable[[Callable[[int], Batch]], Iterator[Batch]]) -> None:
        torch.set_num_threads(1)  # the copy is bound by memory; a second thread would only disturb the step
        if self._cuda_device is not None:
            torch.cuda.set_device(self._cuda_device)  # each thread has a current device of its own
        try:
            for batch in produce(self._take):
                self._ready.put((self._current, batch))
            self._ready.put(None)
        except _StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again where the batches are asked for
            self._ready.put(error)

    def drain(self) -> Iterator[Batch]:
        while True:
            item = self._ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            number, batch = item
            yield batch
            self._free.put((number, self._event()))

    def stop(self) -> None:
        self._is_stopped = True
        self._free.put(None)

    def _take(self, size: int) -> Batch:
        item = self._free.get()
        if item is None or self._is_stopped:
            raise _StoppedError
        self._current, event = item
        if event is not None:
            event.synchronize()
        return self._ring.buffer(self._current, size)

    def _event(self) -> torch.cuda.Event | None:
        """Mark the point of the consumer's stream up to which copies out of the buffer were asked for."""
        return None if self._cuda_device is None else recorded_event(self._cuda_device)


class _StoppedError(Exception):
    """The consumer has left the epoch."""
