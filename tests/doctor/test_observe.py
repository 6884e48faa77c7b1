"""What is read of a data set before and after its items, and what is put back."""

from __future__ import annotations

import queue
import threading

from dsrface.doctor.survey.observe import changed_contents, changed_scalars, read_state


class Rows:
    def __init__(self):
        self.todo = [3, 1, 2]
        self.count = 0
        self.answers = queue.Queue()
        self.ready = threading.Condition()


def test_a_waiting_thread_is_no_state():
    data = Rows()
    before = read_state({"dataset": data})
    data.todo.pop()
    data.count += 1
    data.answers.not_empty._waiters.append(threading.Lock())  # type: ignore[attr-defined]
    data.ready._waiters.append(threading.Lock())  # type: ignore[attr-defined]
    after = read_state({"dataset": data})
    assert changed_contents(before, after) == ["dataset.todo"]
    assert changed_scalars(before, after) == ["dataset.count"]
    assert not [path for path in after.places if "_waiters" in path]
