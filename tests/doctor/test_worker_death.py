"""What a DataLoader raises, from real workers and from recorded texts, in plain words."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dsrface.doctor.checks.registry import all_checks
from dsrface.errors import WorkerError
from dsrface.runtime import worker_death


class Dies(Dataset):
    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            time.sleep(0.7)  # or torch may meet the broken connection before the signal
            if self.how == "raise":
                raise ValueError("cannot identify image file 'broken.png'")
            if self.how == "exit":
                os._exit(3)
            if self.how == "hang":
                signal.pause()
            os.kill(os.getpid(), getattr(signal, self.how))
        return torch.tensor(index)


def death(how):
    """Let a worker die in a process of its own: torch's SIGCHLD handler would raise anywhere in this one."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_die, args=(how, theirs))
    process.start()
    assert ours.poll(60)
    error = ours.recv()
    process.join(30)
    return error


def _die(how, pipe):
    loader = DataLoader(
        Dies(how), num_workers=2, multiprocessing_context="fork", timeout=3 if how == "hang" else 0
    )
    try:
        list(loader)
    except Exception as error:
        pipe.send(worker_death.explain(error, num_workers=2, dataset="photos"))


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
@pytest.mark.parametrize(
    ("how", "id", "said"),
    [
        ("raise", "worker-exception", "broken.png"),
        ("exit", "worker-died", "exit code 3"),
        ("SIGSEGV", "worker-crashed", "segmentation fault"),
        ("SIGABRT", "worker-crashed", "Abort"),
        ("hang", "worker-hung", "3"),
    ],
)
def test_real_deaths(how, id, said):
    error = death(how)
    assert isinstance(error, WorkerError)
    assert (error.id, error.exit_code) == (id, 8)
    assert said in error.message
    assert error.where == "photos" if how != "raise" else "test_worker_death.py" in error.where
    assert any(check in error.hint for check in all_checks())


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
def test_a_killed_worker_is_told_by_its_signal_or_by_its_broken_connection():
    error = death("SIGKILL")
    assert error.id in ("worker-out-of-memory", "worker-died")
    assert "env.ram" in error.hint


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("DataLoader worker (pid 27727) is killed by signal: Killed. ", "worker-out-of-memory"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible", "worker-shared-memory"),
        ("unable to allocate shared memory(shm) for file </torch_1>: No space", "worker-shared-memory"),
        ("Too many open files. Communication with the workers", "worker-open-files"),
        ("received 0 items of ancdata", "worker-open-files"),
        ("Cannot re-initialize CUDA in forked subprocess. To use", "worker-cuda-fork"),
        ("unable to resize file <filename not specified> to the right size", "worker-temporary-tensor"),
        ("too many fds", "worker-many-tensors"),
        ("An attempt has been made to start a new process before the", "worker-main-guard"),
        ("cannot pickle '_thread.lock' object", "worker-unpicklable"),
    ],
)
def test_recorded_texts(text, id):
    inner = RuntimeError(text)
    outer = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    outer.__cause__ = inner
    error = worker_death.explain(outer, num_workers=4)
    assert error.id == id
    assert "dsrface doctor" in error.hint


def test_the_place_that_the_error_states_wins():
    text = (
        "Caught DataError in DataLoader worker process 1.\nOriginal Traceback (most recent call last):\n"
        '  File "/x/data.py", line 3, in __getitem__\n    raise\n'
        "dsrface.errors.DataError: The image is damaged.\nwhere: photos/a.png\nto do: remove it\n"
    )
    error = worker_death.explain(RuntimeError(text), num_workers=1)
    assert error.where == "photos/a.png"
    assert "The image is damaged." in error.message
    assert "to do" not in error.message


def test_what_this_process_cannot_take_is_no_end_of_a_worker():
    error = worker_death.explain(RuntimeError("cannot call qscheme on UnknownQuantizer"), num_workers=2)
    assert error.message == "What a worker sent could not be taken: cannot call qscheme on UnknownQuantizer"
    assert "int_repr()" in error.hint


class Refusing:
    def __getstate__(self):
        raise RuntimeError("Tried to serialize object Linear\nwhich does not have a __getstate__ method")


def test_what_refuses_to_be_sent_to_a_worker_is_named_as_such():
    with pytest.raises(RuntimeError) as caught:
        multiprocessing.get_context("spawn").Process(target=print, args=(Refusing(),)).start()
    error = worker_death.explain(caught.value, num_workers=1)
    assert error.id == "worker-unpicklable"
    assert "cannot be sent to a worker" in error.message
