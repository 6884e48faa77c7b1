"""The batch size that is chosen by trying, on a clock of the test's own."""

from __future__ import annotations

import pytest

from dsrface.engine import batch_size
from dsrface.runtime.devices import choose_device


@pytest.fixture
def tried(monkeypatch):
    """Return a function that chooses for a network of so many seconds an image, and what it then ran."""

    def choose(seconds_an_image: float) -> tuple[batch_size.BatchChoice, list[int]]:
        now, sizes = [0.0], []

        def run(size: int) -> None:
            sizes.append(size)
            now[0] += 0.01 + size * seconds_an_image

        monkeypatch.setattr(batch_size.time, "perf_counter", lambda: now[0])
        return batch_size.choose_batch_size(run, device=choose_device("cpu")), sizes

    return choose


def test_larger_batches_are_tried_while_they_help(tried):
    choice, sizes = tried(0.001)
    assert choice.batch_size == 128
    assert set(sizes) == {1, 8, 16, 32, 64, 128}


def test_a_network_of_seconds_an_image_is_not_kept_busy_with_trials(tried):
    choice, sizes = tried(2.0)
    assert choice.batch_size == 8
    assert "one image takes 2.0 s" in choice.reason
    assert sizes == [1, 1]
