"""What is read of a data set before and after its items, and what is put back."""

from __future__ import annotations

import functools
import queue
import sys
import threading

from dsrface.doctor.survey import observe
from dsrface.doctor.survey.observe import WrittenFiles, changed_contents, changed_scalars, read_state


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


def test_only_files_written_while_it_listens_are_counted(tmp_path):
    files, other = WrittenFiles(), WrittenFiles()
    with files.listen(), other.listen():
        (tmp_path / "a").write_text("a")
        (tmp_path / "a").read_text()
    (tmp_path / "b").write_text("b")
    assert files.counts == other.counts == {str(tmp_path / "a"): 1}


def test_one_audit_hook_serves_all_examinations_of_a_process(monkeypatch):
    hooks = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(observe, "_install_hook", functools.cache(observe._install_hook.__wrapped__))
    for _ in range(3):
        with WrittenFiles().listen():
            pass
    assert hooks == [WrittenFiles.hear]
