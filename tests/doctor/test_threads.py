"""Whether two threads load the same items, and how much of an item leaves the interpreter lock."""

from __future__ import annotations

import random
import sqlite3
import sys
import time

import pytest

from dsrface.doctor.checks.threads import THREADS
from dsrface.doctor.proof.threads import by_threads, outside_the_lock

KEYS = range(16)


def made(load):
    return THREADS.run("threads", by_threads(load, KEYS))


def wait(key):
    time.sleep(0.002)
    return key


def compute(key):
    return sum(range(20_000)) + key


def test_what_waits_leaves_the_lock_and_what_computes_in_python_does_not():
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        assert outside_the_lock(lambda: None) is None
        return
    waiting, computing = by_threads(wait, KEYS), by_threads(compute, KEYS)
    assert waiting.num_compared == computing.num_compared == len(KEYS)
    assert waiting.outside > 0.7 > 0.3 > computing.outside
    assert "threads would help" in made(wait).summary
    assert "threads would hardly help" in made(compute).summary


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
