"""Timing a number of workers, on a clock that is simulated."""

from __future__ import annotations

import pytest

from dsrface.doctor.sizing import sweep

BATCH_SIZE = 8


class Simulated(sweep._Stream):
    """Workers that wait `load_s` for each batch, on a clock that only they and the consumer move."""

    def __init__(self, num_workers: int, load_s: float) -> None:
        self.turn, self.ready, self.batch_size = num_workers, 2 * num_workers, BATCH_SIZE
        self.load_s = load_s
        self.now = 0.0
        self.asked = [0.0] * self.ready  # when each batch was asked for: two lie ahead in every worker
        self.finished: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _next(self) -> None:
        number = len(self.finished)
        before = self.finished[number - self.turn] if number >= self.turn else 0.0
        self.finished.append(max(self.asked[number], before) + self.load_s)
        self.now = max(self.now, self.finished[number])
        self.asked.append(self.now)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("load_s", [0.02, 0.3, 0.66])
@pytest.mark.parametrize("rest_s", [0.0, 0.05, 0.15])
def test_a_short_window_gives_the_rate_of_the_long_run(monkeypatch, num_workers, load_s, rest_s):
    stream = Simulated(num_workers, load_s)
    monkeypatch.setattr(sweep, "time", stream)
    rate = stream.items_per_s(rest_s)
    assert rate == pytest.approx(BATCH_SIZE / max(load_s / num_workers, rest_s), rel=0.1)
