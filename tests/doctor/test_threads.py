"""Whether two threads load the same items, and how much of an item leaves the interpreter lock."""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
import time

import pytest

from dsrface.doctor.checks.threads import THREADS
from dsrface.doctor.proof import threads
from dsrface.doctor.proof.threads import by_threads, has_lock, outside_the_lock

KEYS = range(16)


def made(load):
    return THREADS.run("threads", by_threads(load, KEYS))


def wait(key):
    time.sleep(0.002)
    return key


def compute(key):
    return sum(range(20_000)) + key


def test_what_waits_leaves_the_lock_and_what_computes_in_python_does_not():
    if not has_lock():
        assert outside_the_lock(lambda: None) is None
        return
    waiting, computing = made(wait), made(compute)
    assert waiting.data["compared"] == computing.data["compared"] == len(KEYS)
    if waiting.data["outside"] is None or computing.data["outside"] is None:
        pytest.skip("the machine is too busy")
    assert waiting.data["outside"] > 0.7 > 0.3 > computing.data["outside"]
    assert "threads would help" in waiting.summary
    assert "threads would hardly help" in computing.summary


def test_a_thread_without_a_core_sees_nothing_and_says_so(monkeypatch):
    # As where many other programs run: the clock says that each thread waited for a core all the time.
    monkeypatch.setattr(threads, "run_delay_s", time.perf_counter)
    found = made(compute)
    assert found.status == "pass"
    if has_lock():
        assert found.data["outside"] is None
        assert "too busy" in found.summary


def test_where_no_clock_tells_a_busy_machine_it_is_found_by_sleeping(monkeypatch):
    if not has_lock():
        pytest.skip("without a lock nothing is measured")
    monkeypatch.setattr(threads, "run_delay_s", lambda: None)  # as on Windows and macOS
    is_over = threading.Event()

    def compute_on():  # as other programs do, to the thread that looks
        while not is_over.is_set():
            compute(0)
            time.sleep(0)

    busy = threading.Thread(target=compute_on)
    busy.start()
    try:
        assert outside_the_lock(lambda: time.sleep(0.05)) is None
    finally:
        is_over.set()
        busy.join()


def test_a_state_that_two_threads_share_gives_wrong_items():
    position = [0]

    def read(key):
        position[0] = key
        time.sleep(0.001)  # as a seek, then a read
        return position[0]

    found = made(read)
    assert found.status == "info"
    assert "do not use threads" in found.summary
    assert found.data["wrong"]


def test_random_items_are_not_compared():
    found = made(lambda key: random.random())
    assert found.status == "pass"
    assert "random" in found.summary


def test_the_toss_of_a_coin_is_not_called_wrong():
    found = by_threads(lambda index: random.random() if random.random() < 0.3 else index, range(64))
    assert not found.wrong
    assert found.num_compared + found.num_varying == 64


def test_a_connection_that_belongs_to_one_thread_is_named():
    connection = sqlite3.connect(":memory:")
    found = made(lambda key: connection.execute(f"select {key}").fetchone())
    assert found.status == "info"
    assert "ProgrammingError" in found.summary


def test_an_interpreter_without_its_lock_is_said(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert "no interpreter lock" in made(lambda key: key).summary


@pytest.mark.parametrize("keys", [[], [1]])
def test_few_items_do_not_break_it(keys):
    assert by_threads(wait, keys).error == ""
