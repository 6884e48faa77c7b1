"""Workers that wait for ever, and workers that may not start what they need."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import multiprocessing
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from declare import ALL, FORK, fault, healthy
from inputs import Rows
from torch.utils.data import DataLoader

hangs = functools.partial(fault, "worker.fork", methods=FORK, most_workers=0, plain="hangs")
AFTER_FORK = "first use|forkserver|spawn|in each worker|getpid"


def read(index):
    return torch.full((16,), float(index))


class Executor(Rows):
    def __init__(self):
        self.pool = ThreadPoolExecutor(2)
        self.first = self.pool.submit(read, 0).result()

    def __getitem__(self, index):
        return self.pool.submit(read, index).result(), index


@fault(
    "ds.unpicklable",
    where=r"dataset\.pool",
    fix="first use|__getstate__|getpid|__getitem__",
    methods=("spawn", "forkserver"),
    most_workers=0,
    plain="raises",
)
@hangs(where=r"dataset\.pool|hangs\.py", fix=AFTER_FORK)
def executor_member():
    """m2lines/Samudra#660: the worker has the executor but not its threads."""
    return Executor()


class OpenMP(Rows):
    def __getitem__(self, index):
        torch.set_num_threads(2)
        return torch.ones(500, 500) @ torch.full((500, 4), float(index)), index


@hangs(where=r"hangs\.py|OpenMP|threads", fix="forkserver|spawn|set_num_threads")
def openmp_after_fork():
    """A parallel region before the fork, threads asked for after it. pytorch/pytorch#45198"""
    torch.set_num_threads(2)
    rows = OpenMP()
    _ = rows[0]
    return rows


class Held(Rows):
    def __init__(self):
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.owner = threading.Thread(target=self.hold, daemon=True)
        self.owner.start()
        time.sleep(0.1)

    def hold(self):
        while True:
            with self.lock:
                self.stop.wait(0.05)
            time.sleep(1e-4)

    def __getitem__(self, index):
        with self.lock:
            return torch.tensor(index), index


@hangs(where=r"dataset\.lock|hangs\.py", fix=AFTER_FORK, plain="hangs equal")
def lock_held_at_fork():
    """A lock that a thread of the main process held at the fork. python/cpython#50970 is of this kind."""
    return Held()


class Reader(Rows):
    """A thread of the main process that answers requests."""

    def __init__(self):
        self.asked, self.answers = queue.Queue(), queue.Queue()
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        while True:
            self.answers.put(read(self.asked.get()))

    def __getitem__(self, index):
        self.asked.put(index)
        return self.answers.get(), index


@hangs(where=r"dataset\.(answers|asked)|hangs\.py", fix=AFTER_FORK)
def reader_thread():
    """A prefetching thread that the worker has not."""
    return Reader()


class Loop(Rows):
    """An event loop in a thread, as async file systems keep one."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    async def load(self, index):
        return read(index)

    def __getitem__(self, index):
        return asyncio.run_coroutine_threadsafe(self.load(index), self.loop).result(), index


@hangs(where=r"dataset\.loop|hangs\.py", fix=AFTER_FORK)
def event_loop_thread():
    """An event loop in a thread. fsspec/filesystem_spec#755 is of this kind."""
    return Loop()


class Pools(Rows):
    def __getitem__(self, index):
        if index % 8 == 0:
            with multiprocessing.Pool(1) as pool:
                return pool.apply(read, (index,)), index
        return read(index), index


@fault(
    "worker.*",
    where="Pool|daemonic|hangs.py",
    fix="Pool|thread|process",
    plain="raises",
    most_workers=0,
    methods=FORK,
)
def pool_in_getitem():
    """pytorch/pytorch#15950: a worker may not have children."""
    return Pools()


class Inner(Rows):
    def __getitem__(self, index):
        loader = DataLoader(Rows(), 4, num_workers=1)
        return next(iter(loader))[0], index


@fault(
    "worker.*",
    where="daemonic|hangs.py",
    fix="num_workers=0|worker|process",
    plain="raises",
    most_workers=0,
    methods=FORK,
)
def loader_in_getitem():
    """A DataLoader with workers inside an item."""
    return Inner()


class Endless(Rows):
    def __getitem__(self, index):
        while index == 0:
            pass
        return read(index), index


@fault("ds.items", where=r"dataset\[0\]|hangs\.py", fix="item|sample|loop|ends", plain="hangs", methods=FORK)
def item_without_end():
    """An item whose loading never ends, without workers too."""
    return Endless()


class Turns(Rows):
    """Takes a lock of multiprocessing and forgets to give it back on one path."""

    def __init__(self):
        self.lock = multiprocessing.get_context("fork").Lock()
        self.lock.acquire()

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info() is not None:
            self.lock.acquire()
        return read(index), index


@hangs(where=r"dataset\.lock|hangs\.py", fix="release|lock|first use")
def process_lock_held():
    """A multiprocessing.Lock that the main process holds."""
    return Turns()


class OwnExecutor(Rows):
    """The repaired one: an executor for each process."""

    pools = {}

    def __getitem__(self, index):
        if os.getpid() not in self.pools:
            self.pools[os.getpid()] = ThreadPoolExecutor(2)
        return self.pools[os.getpid()].submit(read, index).result(), index


@healthy(methods=ALL)
def executor_at_first_use():
    """An executor for each process, made at first use."""
    return OwnExecutor()


class Locked(Rows):
    def __init__(self):
        self.lock = threading.Lock()

    def __getitem__(self, index):
        with self.lock:
            return read(index), index


@healthy(methods=FORK, allowed=("ds.unpicklable",))
def free_lock_member():
    """A lock that nobody holds: right under fork, where at most the other methods may be remarked on."""
    return Locked()


class ShortThread(Rows):
    def __init__(self):
        thread = threading.Thread(target=read, args=(0,))
        thread.start()
        thread.join()


@healthy()
def thread_that_ended():
    """A thread that ended before any worker starts."""
    return ShortThread()


class Dies(Rows):
    def __getitem__(self, index):
        if torch.utils.data.get_worker_info() is not None and index % 4 == 0:
            ctypes.string_at(0)
        return read(index), index


@fault(
    "worker.*",
    where="signal|[Ss]egmentation|SIGSEGV",
    fix="worker|library|fork|spawn",
    plain="raises",
    most_workers=0,
)
def segmentation_fault_in_worker():
    """A C library that crashes in workers only. pytorch/pytorch#1838 is of this kind."""
    return Dies()


class ByWorker(Rows):
    def __init__(self):
        self.files = ["only one"]

    def __getitem__(self, index):
        info = torch.utils.data.get_worker_info()
        return torch.tensor(len(self.files[info.id if info else 0])), index


@fault("worker.*", where="IndexError|list index", fix="worker", plain="raises", most_workers=1)
def list_by_worker_number():
    """A list indexed by the worker's number, shorter than there are workers: the items load without workers."""
    return ByWorker()


def set_missing(worker_id):
    torch.utils.data.get_worker_info().dataset.handle.open()


@fault(
    "worker.*",
    where="handle|worker_init_fn|set_missing",
    fix="worker_init_fn|worker",
    plain="raises",
    most_workers=0,
)
def init_fn_that_raises():
    """worker_init_fn uses a member that does not exist."""
    return Rows(), {"worker_init_fn": set_missing}
