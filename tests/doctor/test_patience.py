"""The wait for a batch that does not come is ended; one that comes is not disturbed."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from types import SimpleNamespace

import pytest

from dsrface.doctor.launch import patience
from dsrface.doctor.launch.patience import NoBatch, Patience
from dsrface.doctor.launch.watch import Watch, Watched


def ask_for_ever():
    """Wait as torch does for its workers: in turns."""
    while True:
        with contextlib.suppress(queue.Empty):
            queue.Queue().get(timeout=0.05)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patience, "_LOOK_S", 0.02)


def test_a_wait_without_end_is_ended():
    waits = Patience(0.1)
    with pytest.raises(NoBatch):
        waits.wait(ask_for_ever)
    waits.end()
    assert not [thread for thread in threading.enumerate() if thread.name == "dsrface-patience"]


def test_batches_that_come_pass_and_so_does_the_end():
    waits = Patience(5.0)
    batches = iter([1, 2])
    assert [waits.wait(batches.__next__), waits.wait(batches.__next__)] == [1, 2]
    with pytest.raises(StopIteration):
        waits.wait(batches.__next__)
    waits.end()


def test_meanwhile_something_may_be_done_and_the_batch_is_handed_over_after_it():
    done = []

    def meanwhile():
        time.sleep(0.4)
        done.append(threading.current_thread().name)

    waits = Patience(0.1, meanwhile)
    assert waits.wait(lambda: time.sleep(0.3) or "batch") == "batch"
    assert done == ["dsrface-patience"]
    assert waits.wait(lambda: "next") == "next"
    waits.end()
    assert done == ["dsrface-patience"]


def test_a_long_step_of_the_script_is_no_wait():
    waits = Patience(0.1)
    assert waits.wait(lambda: 1) == 1
    time.sleep(0.3)
    assert waits.wait(lambda: 2) == 2
    waits.end()


def test_its_thread_ends_while_nothing_is_waited_for(monkeypatch):
    monkeypatch.setattr(patience, "_IDLE_S", 0.05)
    waits = Patience(5.0)
    waits.wait(lambda: 1)
    until = time.monotonic() + 10
    while any(thread.name == "dsrface-patience" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert waits.wait(lambda: 2) == 2
    waits.end()


def test_workers_are_given_the_time_that_the_job_itself_took_to_start():
    loader, times = SimpleNamespace(num_workers=1), None
    limits = [Watched(Watch({}, import_s=s), loader, iter([]), times)._patience.limit_s for s in (2, 20, 1e6)]
    assert limits == [30.0, 80.0, 300.0]
