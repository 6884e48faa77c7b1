"""Items that change the data set, leave something behind each time, or hand out one buffer."""

from __future__ import annotations

import collections
import functools
import os
import subprocess
import tempfile
import threading
import time
from multiprocessing import shared_memory

import numpy as np
import torch
from declare import FORK, fault, healthy
from inputs import Rows, record_array, records
from torch.utils.data import IterableDataset

GROWS = "bound|maxsize|close|end what|not keep|not collect|unlink|remove|delete|shared"
grows = functools.partial(
    fault,
    "ds.state",
    "ds.leak",
    "ds.growth",
    "ds.items",
    "ds.refcount_growth",
    "env.ram",
    "env.fds",
    fix=GROWS,
    plain="equal",
)


class Counter(Rows):
    def __init__(self):
        self.count = 0

    def __getitem__(self, index):
        self.count += 1
        return torch.tensor([index, self.count]), index


@fault(
    "ds.state",
    "worker.consistency",
    where=r"dataset\.count",
    fix="index|main process|sampler",
    is_silent=True,
    most_workers=0,
    plain="random differs twins",
)
def counter():
    """A counter that items read: every worker counts its own."""
    return Counter()


class Warmup(Rows):
    """Augmentation that grows stronger with the items seen."""

    def __init__(self):
        self.policy = {"seen": 0}

    def __getitem__(self, index):
        self.policy["seen"] += 1
        return torch.full((16,), index * min(1.0, self.policy["seen"] / 500)), index


@fault(
    "ds.state",
    "worker.consistency",
    where=r"dataset\.policy",
    fix="index|main process|sampler",
    is_silent=True,
    most_workers=0,
    plain="random differs twins",
)
def counter_in_dict():
    """The same in a dict member."""
    return Warmup()


class Cache(Rows):
    length = 20000

    def __init__(self):
        self.cache = {}

    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = torch.full((64, 1024), float(index))
        return self.cache[index][0], index


@grows(where=r"dataset\.cache")
def dict_cache():
    """A cache of items without bound, one in every worker. pytorch/pytorch#35642, szymonmaszke/torchdatasets#26"""
    return Cache()


class Log(Rows):
    length = 20000

    def __init__(self):
        self.log = []

    def __getitem__(self, index):
        image = np.full((256, 256), index, dtype=np.float32)
        self.log.append(image)
        return torch.from_numpy(image[0]), index


@grows(where=r"dataset\.log")
def list_growth():
    """A list that keeps something of every item."""
    return Log()


SEEN = []


class GlobalLog(Rows):
    length = 20000

    def __getitem__(self, index):
        SEEN.append(np.full((256, 256), index, dtype=np.float32))
        return torch.from_numpy(SEEN[-1][0]), index


@grows(where=r"SEEN|memory")
def global_growth():
    """The same in a module variable."""
    return GlobalLog()


@functools.lru_cache(maxsize=None)
def decoded(index):
    return np.full((256, 256), index, dtype=np.float32)


class Unbounded(Rows):
    length = 20000

    def __getitem__(self, index):
        return torch.from_numpy(decoded(index)[0].copy()), index


@grows(where=r"decoded|MiB|memory")
def unbounded_lru_cache():
    """lru_cache(maxsize=None) on the decoder."""
    return Unbounded()


class Descriptors(Rows):
    length = 100_000

    def __init__(self):
        self.kept = []

    def __getitem__(self, index):
        self.kept.append(open(records(), "rb"))
        return torch.tensor(self.kept[-1].read(1)[0]), index


@grows(where=r"descriptor|open file|dataset\.kept")
def descriptor_leak():
    """A file left open by every item. pytorch/pytorch#165532 is of this kind."""
    return Descriptors()


class RawDescriptors(Rows):
    length = 100_000

    def __getitem__(self, index):
        descriptor = os.open(records(), os.O_RDONLY)
        return torch.frombuffer(
            bytearray(os.pread(descriptor, 64, index % 600 * 64)), dtype=torch.uint8
        ), index


@grows(where=r"descriptor|open file")
def raw_descriptor_leak():
    """os.open without close: no object to be seen, only the descriptors grow."""
    return RawDescriptors()


class Threads(Rows):
    def __getitem__(self, index):
        threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
        return torch.tensor(index), index


@grows(where=r"thread")
def thread_leak():
    """A thread left by every item, such as a logger or a prefetcher."""
    return Threads()


class Children(Rows):
    def __init__(self):
        self.helpers = []

    def __getitem__(self, index):
        self.helpers.append(subprocess.Popen(["sleep", "60"]))
        return torch.tensor(index), index


@grows(where=r"process|dataset\.helpers")
def child_leak():
    """A helper process left by every item."""
    return Children()


class Files(Rows):
    def __getitem__(self, index):
        descriptor, path = tempfile.mkstemp(suffix=".png")
        os.write(descriptor, b"x" * 100_000)
        os.close(descriptor)
        return torch.tensor(os.path.getsize(path)), index


@grows(where=r"file|written|temporary")
def files_left():
    """A temporary file left by every item: the disk fills."""
    return Files()


class Segments(Rows):
    def __getitem__(self, index):
        segment = shared_memory.SharedMemory(create=True, size=1 << 16)
        segment.buf[0] = index % 256
        value = int(segment.buf[0])
        segment.close()
        return torch.tensor(value), index


@grows(where=r"shared memory|/dev/shm|file|written")
def shared_memory_left():
    """A shared memory block closed but never unlinked. python/cpython#82300 is of this kind."""
    return Segments()


class OneBuffer(Rows):
    def __init__(self):
        self.buffer = np.zeros((3, 16, 16), np.float32)

    def __getitem__(self, index):
        self.buffer[:] = index
        return torch.from_numpy(self.buffer)


buffered = functools.partial(
    fault, "ds.items", "ds.output", "ds.state", fix="copy|clone", is_silent=True, plain="equal"
)


@buffered(where=r"buffer|memory|dataset\[0\]")
def one_buffer():
    """Items are views of one array: a batch is its last item, many times; without workers too."""
    return OneBuffer()


class OneDict(Rows):
    def __init__(self):
        self.item = {"image": torch.zeros(3, 8, 8), "index": torch.zeros((), dtype=torch.int64)}

    def __getitem__(self, index):
        self.item["image"].fill_(index)
        self.item["index"].fill_(index)
        return self.item


@buffered(where=r"item|memory|dataset\[0\]")
def one_dict():
    """The same dict of tensors each time."""
    return OneDict()


class OneBufferStream(IterableDataset):
    def __iter__(self):
        buffer = torch.zeros(16)
        for index in range(600):
            yield buffer.fill_(index)


@fault(
    "ds.items",
    "ds.output",
    "ds.state",
    "ds.iterable_shard",
    where=r"buffer|memory|comes? twice|item",
    fix="copy|clone",
    is_silent=True,
    plain="differs",
    methods=FORK,
)
def one_buffer_stream():
    """A stream that yields one tensor over and over."""
    return OneBufferStream()


class InPlace(Rows):
    def __init__(self):
        self.images = torch.from_numpy(record_array()[:, :64].astype(np.float32))

    def __getitem__(self, index):
        image = self.images[index]
        image -= 1.0  # in place: it changes what is stored
        image *= 0.5
        return image.clone(), index


@fault(
    "ds.state",
    "ds.items",
    "worker.consistency",
    where=r"dataset\.images",
    fix="copy|clone|in place",
    is_silent=True,
    plain="random differs twins",
)
def in_place():
    """Normalised in place: an item is another one each time it is read."""
    return InPlace()


class Popping(Rows):
    def __init__(self):
        self.todo = list(range(100_000))

    def __getitem__(self, index):
        return torch.tensor(self.todo.pop()), index


@fault(
    "ds.state",
    "worker.consistency",
    where=r"dataset\.todo",
    fix="index|main process|sampler|shared",
    is_silent=True,
    most_workers=0,
    plain="random differs twins",
)
def work_list():
    """Items are taken off a list: every worker takes the same."""
    return Popping()


class Bounded(Rows):
    @functools.lru_cache(maxsize=64)
    def load(self, index):
        return torch.full((3, 32, 32), float(index))

    def __getitem__(self, index):
        return self.load(index), index


@healthy()
def bounded_lru_cache():
    """lru_cache of 64 items: right, and bounded."""
    return Bounded()


class SharedCache(Rows):
    """A cache that all workers fill: its size is fixed from the start."""

    def __init__(self):
        self.items = torch.zeros(self.length, 64).share_memory_()
        self.is_there = torch.zeros(self.length, dtype=torch.bool).share_memory_()

    def __getitem__(self, index):
        if not self.is_there[index]:
            self.items[index] = index
            self.is_there[index] = True
        return self.items[index].clone(), index


@healthy()
def shared_tensor_cache():
    """A cache in shared tensors."""
    return SharedCache()


class Statistics(Rows):
    """Counts what it did, and no item depends on it."""

    def __init__(self):
        self.reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


@healthy()
def statistics():
    """A counter that no item reads."""
    return Statistics()


class TemporaryFiles(Rows):
    def __getitem__(self, index):
        with tempfile.TemporaryFile() as file:
            file.write(bytes([index % 256]) * 64)
            file.seek(0)
            return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8), index


@healthy()
def temporary_files_removed():
    """A temporary file that goes with the item."""
    return TemporaryFiles()


class Memo(Rows):
    """A small table filled at first use, the same for every item."""

    table = None

    def __getitem__(self, index):
        if self.table is None:
            self.table = torch.linspace(0, 1, 1000).sin()
        return self.table[index % 1000 : index % 1000 + 1], index


@healthy()
def table_at_first_use():
    """A table computed at first use."""
    return Memo()


class RunningMean(Rows):
    """Centred by what was seen so far: neither the count nor the mean alone explains an item."""

    def __init__(self):
        self.count, self.mean = 0, 0.0

    def __getitem__(self, index):
        self.count += 1
        self.mean += (index - self.mean) / self.count
        return torch.tensor([index - self.mean]), index


@fault(
    "ds.state",
    "worker.consistency",
    where=r"dataset\.(count|mean)",
    fix="index",
    is_silent=True,
    most_workers=0,
    plain="random differs twins",
)
def running_mean():
    """Two members that change together."""
    return RunningMean()


class Rolling(Rows):
    def __init__(self):
        self.rows = collections.deque(range(100), maxlen=100)

    def __getitem__(self, index):
        self.rows.append(index)
        return torch.tensor([index, self.rows[0]]), index


@fault(
    "ds.state",
    "worker.consistency",
    where=r"dataset\.rows",
    fix="index",
    is_silent=True,
    most_workers=0,
    plain="random differs twins",
)
def rolling_window():
    """A queue of fixed length that items push through."""
    return Rolling()


class FewKept(Rows):
    def __init__(self):
        self.kept = collections.OrderedDict()

    def __getitem__(self, index):
        if index not in self.kept:
            self.kept[index] = torch.full((64,), float(index))
            if len(self.kept) > 16:
                self.kept.popitem(last=False)
        return self.kept[index], index


@healthy()
def bounded_dict_by_hand():
    """An OrderedDict that drops its oldest entry: bounded, as lru_cache is."""
    return FewKept()
