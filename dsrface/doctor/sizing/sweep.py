"""Time several numbers of workers side by side, in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dsrface.doctor import targets
from dsrface.doctor.proof.loaders import make_loader
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.loader_model import Window
from dsrface.doctor.targets import Target

_WINDOW_S = 0.6
_WINDOW_BATCHES = 3
_QUIET = 0.04
_MAX_ROUNDS = 7
_MOST_BATCHES = 4096


def sweep(request: Mapping[str, Any], report: Reporter, target: Target | None = None) -> None:
    """Time the candidates; reports a `window` event for each measurement.

    Args:
        request: `method`, `batch_size`, `candidates`, `until` (monotonic), `consumer_rate`.
        report: Takes the events.
        target: What to load; built from `request["target"]` when not given.
    """
    target = target or targets.build(request["target"])
    method, batch_size = request["method"], request["batch_size"]
    report("stage", name="start the loaders to time")
    deadline = request["until"]  # on the clock of the whole examination
    half = time.monotonic() + 0.4 * (deadline - time.monotonic())
    rate = request["consumer_rate"]
    rest_s = batch_size / rate if rate else 0.0
    streams: dict[int, _Stream] = {}
    for number in request["candidates"]:
        if streams and time.monotonic() > half:
            break  # starting workers is slow here; the first ones are the most promising
        streams[number] = _Stream(target, method, number, batch_size)
    report("stage", name="time the settings")
    rates: dict[int, list[float]] = {number: [] for number in streams}
    for round_index in range(_MAX_ROUNDS):
        for number in sorted(streams, reverse=bool(round_index % 2)):
            if time.monotonic() > deadline and round_index:
                return
            value = streams[number].items_per_s(rest_s)
            rates[number].append(value)
            report("window", num_workers=number, rate=value, round=round_index)
        if round_index >= 2 and all(
            Window(number, tuple(values)).spread < _QUIET for number, values in rates.items()
        ):
            return


class _Stream:
    """An endless loader of one setting whose workers stay."""

    def __init__(self, target: Target, method: str, num_workers: int, batch_size: int) -> None:
        self.turn = max(1, num_workers)  # a batch from each worker
        self.ready = num_workers * 2
        batches = None if target.is_iterable else _Endless(target, batch_size)
        self.batch_size = batches.items_per_batch if batches is not None else batch_size
        self._loader = make_loader(
            target,
            num_workers=num_workers,
            method=method,
            batches=batches,
            batch_size=batch_size,
            persistent=True,
        )
        self._iterator = iter(self._loader)
        self._next()

    def items_per_s(self, rest_s: float) -> float:
        """Return the throughput with a consumer that rests after each batch, without batches lying ready.

        Workers that wait deliver one batch each at almost the same time: whole turns are counted, from a
        delivery on.
        """
        for _ in range(self.ready + 1):
            self._next()
        begin = time.perf_counter()
        batches = 0
        while (seconds := time.perf_counter() - begin) < 5 * _WINDOW_S:
            if seconds > _WINDOW_S and batches >= _WINDOW_BATCHES and batches % self.turn == 0:
                break
            if rest_s:
                time.sleep(rest_s)
            self._next()
            batches += 1
        return batches * self.batch_size / (time.perf_counter() - begin)

    def _next(self) -> None:
        try:
            next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._loader)
            next(self._iterator)


class _Endless:
    """Batches of the loader's keys without end, in random order; its own batches where it has them."""

    def __init__(self, target: Target, batch_size: int) -> None:
        self.own = target.own_batches(_MOST_BATCHES) if target.has_own_batches else []
        self.keys = [] if self.own else target.first_keys(_MOST_BATCHES)
        self.length = len(self.keys)
        if target.sampler is None and not self.own:
            self.length = target.num_items() or 1
        self.batch_size = batch_size if target.is_batched else 1
        self.is_batched = target.is_batched
        self.is_range = target.sampler is None
        self.items_per_batch = _mean_length(self.own) if self.own else self.batch_size
        if not target.is_batched:
            self.items_per_batch = _mean_length(self.keys)

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(0)
        while True:
            if self.own:
                for at in torch.randperm(len(self.own), generator=generator).tolist():
                    yield self.own[at]
                continue
            chosen = torch.randint(self.length, (self.batch_size,), generator=generator).tolist()
            keys = chosen if self.is_range else [self.keys[at] for at in chosen]
            yield keys if self.is_batched else keys[0]


def _mean_length(batches: list[Any]) -> float:
    lengths = [len(batch) if isinstance(batch, (list, tuple)) else 1 for batch in batches]
    return sum(lengths) / max(1, len(lengths))
