"""The path that the tracer gives to a member that cannot be sent to a worker."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import pytest
import torch

from dsrface.doctor.trace.kinds import ADVICE
from dsrface.doctor.trace.pickling import trace


class Holder:
    def __init__(self, held):
        self.held = held


class WithLock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("held", "path", "words"),
    [
        (ThreadPoolExecutor(1), "", "make a new one"),
        (threading.Event(), "", "make a new one"),
        (Queue(), "", "make a new one"),
        (logging.FileHandler(os.devnull, delay=True), "", "make a new one"),
        (weakref.WeakValueDictionary(), "", "make a new one"),
        (WithLock(), ".lock", "make a new one"),
        ([WithLock()], "[0].lock", "make a new one"),
        (functools.partial(print, threading.Lock()), ".args[0]", "make a new one"),
        (torch.nn.Sequential(torch.nn.Identity(), WithLock()), ".1.lock", "make a new one"),
    ],
)
def test_a_member_is_named_as_the_user_holds_it_not_by_what_a_library_keeps_inside(held, path, words):
    (member,) = trace({"dataset": Holder(held)}).unpicklable
    assert member.path == f"dataset.held{path}"
    assert words in ADVICE[member.kind]
    owner, offset = (WithLock, 3) if path.endswith("lock") else (Holder, 2)
    line = inspect.getsourcelines(owner)[1] + offset
    assert member.source.endswith(f"test_trace.py:{line}")


@pytest.mark.parametrize(
    ("transform", "words"), [(threading.Event(), "make a new one"), (lambda image: image, "at module level")]
)
def test_a_transform_is_named_by_its_place(transform, words):
    transforms = pytest.importorskip("torchvision.transforms")  # slow
    (member,) = trace({"dataset": Holder(transforms.Compose([transform]))}).unpicklable
    assert member.path == "dataset.held.transforms[0]"
    assert words in ADVICE[member.kind]
