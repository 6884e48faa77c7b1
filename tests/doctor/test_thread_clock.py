"""Blocked and waiting time where the system does not tell them apart, as on Windows and macOS."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsrface.doctor.sizing import thread_clock
from dsrface.doctor.sizing.measure import ItemCost, measure_items


def sleep(_: int) -> None:
    time.sleep(0.02)


def compute(_: int) -> None:
    end = time.thread_time() + 0.004
    while time.thread_time() < end:
        pass


@pytest.fixture
def silent_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what Linux tells of a thread."""
    monkeypatch.setattr(thread_clock, "_SCHEDSTAT", Path("nowhere"))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert thread_clock.run_delay_s() is None
    assert thread_clock.voluntary_switches() is None


def cost_of(fetch) -> ItemCost:
    cost = measure_items(fetch, range(60), budget_s=1.0)
    assert cost is not None
    return cost


@pytest.mark.usefixtures("silent_system")
def test_sleeping_items_are_blocked_and_not_waiting_for_a_core():
    cost = cost_of(sleep)
    assert cost.is_wait_estimated
    assert cost.own_s > 0.018  # never 4,450 items a second of items that sleep 20 ms
    assert cost.blocked_fraction > 0.9
    assert cost.wait_fraction < 0.1


@pytest.fixture
def busy_core() -> Iterator[None]:
    """Pin this thread, and those that it starts, to one core on which another process spins."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("pins to one core")
    cores = os.sched_getaffinity(0)
    core = min(cores)
    spin = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as rival:
        assert rival.stdout is not None
        rival.stdout.readline()
        os.sched_setaffinity(0, {core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, cores)
            rival.kill()


@pytest.mark.usefixtures("silent_system", "busy_core")
def test_computing_items_on_a_busy_core_wait_for_it():
    cost = cost_of(compute)
    assert cost.is_wait_estimated
    assert cost.wait_fraction > 0.25
    assert cost.blocked_fraction < 0.5


@pytest.mark.usefixtures("busy_core")
@pytest.mark.skipif(thread_clock.run_delay_s() is None, reason="the kernel counts no waiting")
def test_items_that_threads_compute_on_a_busy_core_wait_for_it():
    with ThreadPoolExecutor(1) as pool:
        cost = cost_of(lambda index: pool.submit(compute, index).result())
    assert cost.wait_fraction > 0.25
    assert cost.blocked_fraction < 0.3


def test_without_sources_nothing_is_known_and_nothing_is_high(silent_system):
    assert cost_of(compute).is_wait_estimated
