"""Seventy-five kinds of members that data sets hold, and what real workers do with each.

`python doctor_zoo.py METHOD` prints a JSON object: kind -> {"static": bool, "real": bool, "error": text},
where true means that a worker starts and delivers. Each kind is judged by a real worker of its own under
where true means that a worker starts and delivers. Each kind is judged by a real worker of its own under
fork and forkserver; under spawn all kinds that should work share one worker (its start takes seconds), and
every kind that should not work gets a start of its own.
"""

# ruff: noqa: SIM115, PLW0108, PYI024 - open files, lambdas and old namedtuples are the specimens

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import io
import itertools
import json
import logging
import mmap
import multiprocessing
import pathlib
import queue
import random
import re
import socket
import sqlite3
import sys
import tempfile
import threading
import warnings
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

FOLDER = pathlib.Path(tempfile.gettempdir())


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Record:
    name: str = "a"


Point = collections.namedtuple("Point", "x y")


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Fresh:
    """The fix that crashes workers: a tensor made while pickling."""

    def __init__(self):
        self.weights = torch.ones(1000)

    def __getstate__(self):
        return {"weights": self.weights.clone()}


class Kept:
    def __init__(self):
        self.weights = torch.ones(1000)

    def __getstate__(self):
        return {"weights": self.weights}


class AsNumpy:
    def __init__(self):
        self.weights = torch.ones(1000)

    def __getstate__(self):
        return {"weights": self.weights.numpy().copy()}


class DropsLock:
    def __init__(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        return {}


class Refuses:
    def __reduce__(self):
        raise RuntimeError("I stay here")


class Target:
    pass


ALIVE = Target()


def double(value):
    return 2 * value


def local_function():
    def inner(value):
        return value

    return inner


def local_instance():
    class Local:
        pass

    return Local()


def hooked():
    net = torch.nn.Linear(2, 2)
    net.register_forward_hook(lambda *_: None)
    return net


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(torch.nn.Linear(2, 2))


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(torch.nn.Linear(2, 2))


def h5_file():
    import h5py

    return h5py.File(f"zoo-{random.random()}.h5", "w", driver="core", backing_store=False)


def tv_compose():
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomHorizontalFlip(), v2.Normalize([0.5], [0.5])])


def console():
    from rich.console import Console

    return Console()


def memmap():
    return np.memmap(tempfile.TemporaryFile(), dtype=np.uint8, shape=(5000,))


KINDS = {
    "cpu tensor": lambda: torch.ones(1000),
    "leaf with grad": lambda: torch.ones(10, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.ones(10)),
    "tensor view": lambda: torch.ones(1000)[::2],
    "sparse tensor": lambda: torch.eye(4).to_sparse(),
    "module": lambda: torch.nn.Linear(4, 4),
    "meta module": lambda: torch.nn.Linear(4, 4, device="meta"),
    "bound method": lambda: Record("b").__eq__,
    "partial of function": lambda: functools.partial(double, 3),
    "logger": lambda: logging.getLogger("zoo"),
    "pil image": lambda: Image.new("RGB", (8, 8)),
    "array": lambda: np.ones(1000),
    "object array": lambda: np.array([Record(), None], dtype=object),
    "numpy generator": lambda: np.random.default_rng(0),
    "random state": lambda: np.random.RandomState(0),
    "random.Random": lambda: random.Random(0),
    "bytesio": lambda: io.BytesIO(b"abc"),
    "torchvision compose": tv_compose,
    "dataclass": Record,
    "namedtuple": lambda: Point(1, 2),
    "enum": lambda: Colour.RED,
    "path": lambda: FOLDER,
    "regex": lambda: re.compile("a+"),
    "slots": lambda: Slotted(3),
    "defaultdict of list": lambda: collections.defaultdict(list),
    "deque": lambda: collections.deque([1, 2]),
    "itertools.count": lambda: itertools.count(3),
    "torch dtype": lambda: torch.float16,
    "torch device": lambda: torch.device("cpu"),
    "memmap": memmap,
    "getstate keeps tensor": Kept,
    "getstate as numpy": AsNumpy,
    "getstate drops lock": DropsLock,
    "socket": lambda: socket.socket(),
    "spawn lock": lambda: multiprocessing.get_context("spawn").Lock(),
    "spawn queue": lambda: multiprocessing.get_context("spawn").Queue(),
    "lambda": lambda: lambda value: value,
    "local function": local_function,
    "instance of local class": local_instance,
    "partial of lambda": lambda: functools.partial(lambda value: value, 1),
    "defaultdict of lambda": lambda: collections.defaultdict(lambda: 0),
    "module with lambda hook": hooked,
    "slots with lambda": lambda: Slotted(lambda: 0),
    "object array of lambdas": lambda: np.array([lambda: 0], dtype=object),
    "lock": threading.Lock,
    "rlock": threading.RLock,
    "condition": threading.Condition,
    "event": threading.Event,
    "thread local": threading.local,
    "executor": lambda: ThreadPoolExecutor(1),
    "queue.Queue": queue.Queue,
    "simple queue": queue.SimpleQueue,
    "context variable": lambda: contextvars.ContextVar("zoo"),
    "binary file": lambda: open(__file__, "rb"),
    "text file": lambda: open(__file__),
    "mmap": lambda: mmap.mmap(-1, 4096),
    "generator": lambda: (n for n in range(3)),
    "dict keys": lambda: {1: 2}.keys(),
    "python module": lambda: np,
    "sqlite": lambda: sqlite3.connect(":memory:"),
    "zip file": lambda: zipfile.ZipFile(io.BytesIO(), "w"),
    "zip on disk": lambda: zipfile.ZipFile(tempfile.TemporaryFile(), "w"),
    "weakref": lambda: weakref.ref(ALIVE),
    "h5py file": h5_file,
    "rich console": console,
    "non-leaf tensor": lambda: torch.ones(3, requires_grad=True) * 2,
    "old weight_norm": old_weight_norm,
    "parametrized": lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)),
    "scripted": scripted,
    "torch generator": torch.Generator,
    "getstate clones tensor": Fresh,
    "fork lock": lambda: multiprocessing.get_context("fork").Lock(),
    "fork queue": lambda: multiprocessing.get_context("fork").Queue(),
    "loader iterator": lambda: iter(DataLoader([1, 2])),
    "reduce raises": Refuses,
}


class Holder(Dataset):
    """Four numbers, and whatever it is given to carry."""

    def __init__(self, member):
        self.member = member

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor(index)


def real(member, method):
    """Return "" when a worker delivers all batches, else the error."""
    try:
        loader = DataLoader(Holder(member), batch_size=2, num_workers=1, multiprocessing_context=method)
        got = torch.cat(list(loader)).tolist()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "" if got == [0, 1, 2, 3] else f"wrong items {got}"


def main(method):
    from dsrface.doctor.trace.pickling import trace

    warnings.simplefilter("ignore")
    if method == "forkserver":
        multiprocessing.get_context(method).set_forkserver_preload(["torch", "doctor_zoo"])
    members = {kind: make() for kind, make in KINDS.items()}
    static = {kind: not trace({"dataset": Holder(member)}).blocks(method) for kind, member in members.items()}
    table = {}
    if method == "spawn":
        together = [members[kind] for kind, works in static.items() if works]
        error = real(together, method)
        for kind, works in static.items():
            if works:
                table[kind] = error
    for kind, member in members.items():
        if kind not in table:
            table[kind] = real(member, method)
    print(
        json.dumps(
            {kind: {"static": static[kind], "real": not table[kind], "error": table[kind]} for kind in KINDS}
        )
    )


if __name__ == "__main__":
    import doctor_zoo  # classes must have a module that workers can import

    doctor_zoo.main(sys.argv[1])
