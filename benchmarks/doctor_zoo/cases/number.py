"""Data sets for which the number of workers is the question. Two cores are assumed where cores decide."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from connections import serve
from declare import FORK, healthy
from inputs import Rows, image, records
from torch.utils.data import TensorDataset

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Long(Rows):
    length = 20_000


class ChildProcess(Long):
    CODE = "import time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass"

    def __getitem__(self, index):
        subprocess.run([sys.executable, "-S", "-E", "-c", self.CODE], check=True)
        return torch.full((64,), float(index)), index


@healthy(methods=FORK, most_workers=CORES)
def child_processor_time():
    """A child process decodes: its processor time is not waiting."""
    return ChildProcess()


class WaitingChild(Long):
    def __getitem__(self, index):
        subprocess.run(["sleep", "0.03"], check=True)
        return torch.full((64,), float(index)), index


@healthy(methods=FORK, least_workers=2)
def child_that_waits():
    """A child process that waits: more workers help."""
    return WaitingChild()


class OneLock(Long):
    def __init__(self):
        self.path = tempfile.mkstemp()[1]

    def __getitem__(self, index):
        with open(self.path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            time.sleep(0.012)
        return torch.full((64,), float(index)), index


@healthy(methods=FORK, most_workers=2)
def one_lock_for_all():
    """Waiting that does not overlap: one lock on one device. 0, 1 and 8 workers are equally fast"""
    return OneLock()


class OneServer(Long):
    """A feature server that answers one at a time; each worker has a connection of its own."""

    CODE = (
        "import socketserver, sys, threading, time, os\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
        "lock = threading.Lock()\n"
        "class Handler(socketserver.StreamRequestHandler):\n"
        "    def handle(self):\n"
        "        for line in self.rfile:\n"
        "            with lock: time.sleep(0.01)\n"
        "            self.wfile.write(b'%08d' % int(line))\n"
        "server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), Handler)\n"
        "server.daemon_threads = True\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port, self.own = int(self.server.stdout.readline()), {}

    def __getitem__(self, index):
        import socket

        if os.getpid() not in self.own:
            self.own[os.getpid()] = socket.create_connection(("127.0.0.1", self.port))
        connection = self.own[os.getpid()]
        connection.sendall(b"%d\n" % index)
        return torch.tensor(int(connection.recv(8, socket.MSG_WAITALL))), index


@healthy(methods=FORK, most_workers=2)
def one_server_in_turn():
    """A server that serves one request at a time: waiting that does not overlap."""
    return OneServer()


class Threads(Long):
    """Two threads of one's own that use the processor outside of Python's lock."""

    pools = {}

    def __getitem__(self, index):
        pool = self.pools.setdefault(os.getpid(), None) or ThreadPoolExecutor(2)
        self.pools[os.getpid()] = pool
        data = bytes([index % 256]) * 4_000_000
        digests = list(pool.map(lambda part: hashlib.sha512(part).digest(), (data, data[1:])))
        return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8), index


@healthy(methods=FORK, most_workers=CORES)
def native_threads():
    """Processor time of other threads of the worker is not waiting."""
    return Threads()


class OpenCV(Long):
    def __init__(self):
        import cv2

        self.image = np.asarray(image(0, 512))
        cv2.setNumThreads(4)
        cv2.GaussianBlur(self.image, (31, 31), 5)

    def __getitem__(self, index):
        import cv2

        blurred = cv2.GaussianBlur(self.image, (31, 31), 5 + index % 3)
        return torch.from_numpy(cv2.resize(blurred, (64, 64))), index


@healthy(methods=FORK, most_workers=CORES, needs=("cv2",))
def opencv_threads():
    """OpenCV's own threads. pytorch/pytorch#1838, #1355"""
    return OpenCV()


@healthy(most_workers=0)
def rows_of_a_tensor():
    """Rows of a tensor in memory: microseconds; 0 workers are several times as fast."""
    return TensorDataset(torch.arange(400_000.0).reshape(20_000, 20), torch.arange(20_000))


class Tiny(Long):
    def __getitem__(self, index):
        return index


@healthy(most_workers=0, methods=FORK)
def tiny_numbers():
    """A number is the item."""
    return Tiny()


class Small(Long):
    """Some 0.02 ms an item."""

    def __getitem__(self, index):
        return torch.full((16,), float(index)).mul_(2).add_(1), index


@healthy(most_workers=0, methods=FORK)
def small_tensors():
    """0.02 ms an item, where 0 workers are 1.5 times as fast as 2."""
    return Small()


class Slow(Long):
    length = 500

    def __getitem__(self, index):
        time.sleep(3)
        return torch.full((16, 16), float(index)), index


@healthy(plain="equal hangs", least_workers=1, methods=FORK)
def slow_items():
    """3 s an item, such as slides, clips and CT volumes: slow, and no hang."""
    return Slow()


class Uneven(Long):
    def __getitem__(self, index):
        time.sleep(0.2 if index % 40 == 0 else 0.002)
        return torch.full((16,), float(index)), index


@healthy(methods=FORK, least_workers=1)
def uneven_items():
    """One item in forty takes a hundred times as long."""
    return Uneven()


class Waiting(Long):
    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.full((64,), float(index)), index


@healthy(methods=FORK, least_workers=2)
def waiting_items():
    """10 ms of waiting that overlaps."""
    return Waiting()


class Jpeg(Long):
    def __init__(self):
        buffer = io.BytesIO()
        image(0, 384).save(buffer, "JPEG")
        self.jpeg = buffer.getvalue()

    def __getitem__(self, index):
        from PIL import Image

        pixels = np.asarray(Image.open(io.BytesIO(self.jpeg)).resize((64 + index % 2, 64)))[:, :64]
        return torch.from_numpy(pixels.copy()), index


@healthy(least_workers=1, most_workers=CORES)
def decoding():
    """JPEG decoding: processor time, so about a worker for each core."""
    return Jpeg()


class Huge(Long):
    length = 64

    def __getitem__(self, index):
        return torch.full((16, 1024, 1024), float(index)), index


@healthy(methods=FORK, plain="equal")
def huge_items():
    """64 MB an item."""
    return Huge(), {"batch_size": 2}


class Sums(Long):
    length = 400

    def __init__(self):
        torch.set_num_threads(2)
        self.weights = torch.rand(700_000, generator=torch.Generator().manual_seed(0))

    def __getitem__(self, index):
        return (self.weights * (index + 1)).sum(), index


@healthy(plain="equal differs", methods=FORK)
def sums_by_threads():
    """The last bits of a sum depend on the number of threads: one in workers, two here."""
    return Sums()


class Spectra(Sums):
    def __getitem__(self, index):
        signal = self.weights[: 1 << 18].reshape(512, 512) + index
        return torch.fft.rfft2(signal).abs().mean(0), index


@healthy(plain="equal differs")
def spectra_by_threads():
    """The same of a Fourier transform and a mean."""
    return Spectra()


class Few(Rows):
    length = 3


@healthy(most_workers=3)
def three_items():
    """A set of three items."""
    return Few()


class Thread(Long):
    """A thread for each item that ends with it."""

    def __getitem__(self, index):
        found = []
        thread = threading.Thread(target=lambda: found.append(torch.full((16,), float(index))))
        thread.start()
        thread.join()
        return found[0], index


@healthy(methods=FORK)
def thread_in_item():
    """A thread that lives as long as its item."""
    return Thread()


class Served(Long):
    """An HTTP request for each item, over a connection of its own."""

    length = 600

    def __init__(self):
        self.server, self.port = serve("http")

    def __getitem__(self, index):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", f"/{index}")
        value = int(connection.getresponse().read())
        connection.close()
        return torch.tensor(value), index


@healthy(methods=FORK)
def connection_per_item():
    """A connection for each item."""
    return Served()


class Opened(Long):
    length = 600

    def __getitem__(self, index):
        with open(records(), "rb") as file:
            file.seek(index * 4096)
            return torch.frombuffer(bytearray(file.read(4096)), dtype=torch.int32), index


@healthy()
def file_opened_per_item():
    """A file opened and closed for each item."""
    return Opened()
