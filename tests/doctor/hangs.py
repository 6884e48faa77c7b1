"""Training processes whose DataLoader hangs, each in its own way.

`python hangs.py FOLDER KIND...` forks a process for each kind and prints `KIND PID`; a worker leaves a file
of that name in the folder just before it blocks.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import multiprocessing.pool
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

_BAD = 21


class Hang(Dataset):
    """Item 21 blocks, after the loader's own machinery has started."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind
        if kind in PREPARED:
            self.held = PREPARED[kind](self)

    def __len__(self):
        return 400

    def __getitem__(self, index):
        if index == _BAD:
            Path(self.folder, self.kind).touch()
            BLOCKED[self.kind](self)
        return index


def held_lock(_):
    lock = threading.Lock()
    lock.acquire()
    return lock


def held_rlock(_):
    lock = threading.RLock()
    threading.Thread(target=lambda: (lock.acquire(), time.sleep(999)), daemon=True).start()
    time.sleep(0.1)
    return lock


def held_mp_lock(_):
    lock = multiprocessing.get_context("fork").Lock()
    lock.acquire()
    return lock


def pool(_):
    executor = ThreadPoolExecutor(2)
    executor.submit(int).result()
    executor.submit(int).result()
    return executor


def thread_pool(_):
    made = multiprocessing.pool.ThreadPool(2)
    made.apply(int)
    return made


def openmp(_):
    torch.set_num_threads(2)
    return torch.randn(512, 512) @ torch.randn(512, 512)


def locked_file(dataset):
    file = open(Path(dataset.folder, "lock"), "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def use_openmp(_):
    torch.set_num_threads(2)
    torch.randn(512, 512) @ torch.randn(512, 512)


def take_file_lock(dataset):
    with open(Path(dataset.folder, "lock"), "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)


def open_fifo(dataset):
    path = Path(dataset.folder, f"fifo{os.getpid()}")
    os.mkfifo(path)
    with open(path) as fifo:
        fifo.read()


def receive(_):
    here, there = socket.socketpair()
    here.recv(1)
    there.close()


def accept(_):
    server = socket.create_server(("127.0.0.1", 0))
    server.accept()


PREPARED = {
    "lock": held_lock,
    "rlock": held_rlock,
    "mp_lock": held_mp_lock,
    "pool": pool,
    "thread_pool": thread_pool,
    "openmp": openmp,
    "flock": locked_file,
}
BLOCKED = {
    "lock": lambda d: d.held.acquire(),
    "rlock": lambda d: d.held.acquire(),
    "semaphore": lambda _: threading.Semaphore(0).acquire(),
    "mp_lock": lambda d: d.held.acquire(),
    "pool": lambda d: d.held.submit(int).result(),
    "thread_pool": lambda d: d.held.apply(int),
    "openmp": use_openmp,
    "flock": take_file_lock,
    "condition": lambda _: threading.Event().wait(),
    "queue": lambda _: queue.Queue().get(),
    "recv": receive,
    "recv_spawn": receive,
    "recv_forkserver": receive,
    "accept": accept,
    "full_pipe": lambda _: os.write(os.pipe()[1], bytes(1 << 20)),
    "empty_pipe": lambda _: os.read(os.pipe()[0], 1),
    "fifo": open_fifo,
    "child": lambda _: subprocess.run(["sleep", "999"], check=False),
    "select": lambda _: select.select([os.pipe()[0]], [], []),
    "stopped": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
}
EXPECTED = {
    "lock": "lock",
    "rlock": "lock",
    "semaphore": "lock",
    "mp_lock": "lock",
    "pool": "pool",
    "thread_pool": "pool",
    "openmp": "threads",
    "flock": "lock",
    "condition": "lock",
    "queue": "lock",
    "recv": "network",
    "recv_spawn": "network",
    "recv_forkserver": "network",
    "accept": "network",
    "full_pipe": "pipe",
    "empty_pipe": "pipe",
    "fifo": "blocked",
    "child": "child",
    "select": "blocked",
    "stopped": "stopped",
}


def train(folder, kind):
    method = kind.partition("_")[2] if kind.startswith("recv_") else "fork"
    for _ in DataLoader(Hang(folder, kind), batch_size=4, num_workers=2, multiprocessing_context=method):
        pass


def main():
    folder, *kinds = sys.argv[1:]
    for kind in kinds:
        pid = os.fork()
        if pid == 0:
            train(folder, kind)
            os._exit(0)
        print(kind, pid, flush=True)
    sys.stdin.read()  # until the test has seen enough


if __name__ == "__main__":
    main()
