"""Data sets of kinds that people report, for the judgment of the doctor; each says what it stands for."""

from __future__ import annotations

import functools
import os
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    get_worker_info,
)

RECORD = 64
NUM = 400
SCALE = 1.0


def record_file():
    """Return a file of records whose bytes say which record they are."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"doctor_judgment_{user}.bin"
    if not path.exists():
        path.write_bytes(b"".join(bytes([n % 251]) * RECORD for n in range(NUM)))
    return path


class Base(Dataset):
    def __len__(self):
        return NUM

    def __getitem__(self, index):
        return torch.full((4,), float(index))


class Flip(Base):
    """Healthy: a coin flip."""

    def __getitem__(self, index):
        item = torch.arange(6.0) + index
        return item.flip(0) if torch.rand(1) < 0.5 else item


class PythonFlip(Base):
    """Healthy: a random choice by random and numpy."""

    def __getitem__(self, index):
        return torch.tensor([index, random.randrange(3), int(np.random.randint(3))])


class Reader(Base):
    """Fault: seek and read on a file opened before the fork, by whatever holds it."""

    def read(self, handle, index):
        handle.seek(index * RECORD)
        return torch.frombuffer(bytearray(handle.read(RECORD)), dtype=torch.uint8)


class MemberHandle(Reader):
    def __init__(self):
        self.handle = open(record_file(), "rb")

    def __getitem__(self, index):
        return self.read(self.handle, index)


class ClassHandle(Reader):
    handle = None

    def __init__(self):
        ClassHandle.handle = open(record_file(), "rb")

    def __getitem__(self, index):
        return self.read(self.handle, index)


HANDLE = None


class GlobalHandle(Reader):
    def __init__(self):
        global HANDLE
        HANDLE = open(record_file(), "rb")

    def __getitem__(self, index):
        return self.read(HANDLE, index)


@functools.lru_cache
def opened(path):
    return open(path, "rb", buffering=8192)  # Python 3.14 would read all of the file


class CachedHandle(Reader):
    def __init__(self):
        opened(str(record_file()))

    def __getitem__(self, index):
        return self.read(opened(str(record_file())), index)


class Descriptor(Base):
    def __init__(self):
        self.descriptor = os.open(record_file(), os.O_RDONLY)

    def __getitem__(self, index):
        os.lseek(self.descriptor, index * RECORD, os.SEEK_SET)
        return torch.frombuffer(bytearray(os.read(self.descriptor, RECORD)), dtype=torch.uint8)


class Pread(Descriptor):
    """Healthy: reads at an offset, without a position."""

    def __getitem__(self, index):
        return torch.frombuffer(
            bytearray(os.pread(self.descriptor, RECORD, index * RECORD)), dtype=torch.uint8
        )


class PerProcess(Reader):
    """Healthy: one handle for each process, at first use."""

    def __init__(self):
        self.handles = {}

    def __getitem__(self, index):
        handle = self.handles.setdefault(os.getpid(), None) or open(record_file(), "rb")
        self.handles[os.getpid()] = handle
        return self.read(handle, index)


class Noise(Base):
    def __getitem__(self, index):
        return torch.from_numpy(np.random.rand(8))


def same_seed(worker_id):
    np.random.seed(42)


def right_seed(worker_id):
    np.random.seed(torch.initial_seed() % 2**32)


def constant_seed():
    """Fault: worker_init_fn gives every worker the same numbers."""
    return Noise(), {"worker_init_fn": same_seed}


def seeded():
    """Healthy: the seed that torch recommends."""
    return Noise(), {"worker_init_fn": right_seed}


class OwnGenerator(Base):
    """Fault: a state of its own, which every worker copies."""

    def __init__(self):
        self.state = 1

    def __getitem__(self, index):
        self.state = self.state * 6364136223846793005 % (1 << 62)
        return torch.tensor([index, self.state % 1000])


class Clock(Base):
    """Fault: seeded by whole seconds."""

    def __getitem__(self, index):
        return torch.tensor([random.Random(int(time.time())).randrange(1 << 30)])


class Counter(Base):
    """Fault: items count."""

    def __init__(self):
        self.count = 0

    def __getitem__(self, index):
        self.count += 1
        return torch.tensor([index, self.count])


class Epoch(Base):
    """Fault with persistent workers: the epoch is a plain member."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        return torch.tensor([index, random.Random(self.epoch * 9973 + index).randrange(1 << 20)])


class SharedEpoch(Epoch):
    """Healthy: the epoch is in shared memory."""

    def __init__(self):
        self.shared = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        self.shared.fill_(epoch)

    @property
    def epoch(self):  # type: ignore[override]
        return int(self.shared)


class OneBuffer(Base):
    """Fault: items are views of one buffer."""

    def __init__(self):
        self.buffer = np.zeros(4, np.float32)

    def __getitem__(self, index):
        self.buffer[:] = index
        return torch.from_numpy(self.buffer)


class LeavesFiles(Base):
    """Fault: each item leaves a file open."""

    def __init__(self):
        self.kept = []

    def __getitem__(self, index):
        self.kept.append(open(record_file(), "rb"))
        return torch.tensor([index])


class FloatSum(Base):
    """Healthy: the last bits of a sum depend on the number of threads."""

    def __init__(self):
        self.weights = torch.rand(300_000, generator=torch.Generator().manual_seed(0))

    def __getitem__(self, index):
        return (self.weights * (index + 1)).sum()


class Tagged(np.ndarray):
    pass


def as_list(items):
    return items


class LosesAttribute(Base):
    """Fault: an attribute of an array does not survive the way from a worker."""

    def __getitem__(self, index):
        array = np.full(3, float(index)).view(Tagged)
        array.spacing = 0.5  # type: ignore[attr-defined]
        return array


def loses_attribute():
    return LosesAttribute(), {"collate_fn": as_list}


class StopsEarly(Base):
    """Fault: StopIteration ends the epoch without a word."""

    def __getitem__(self, index):
        if index == 150:
            raise StopIteration
        return torch.tensor([index])


class Exits(Base):
    """Fault: the program's end for a bad sample."""

    def __getitem__(self, index):
        if index == 150:
            raise SystemExit("sample is broken")
        return torch.tensor([index])


class LateVariable(Base):
    """Fault under spawn: a module variable that is set after the import."""

    def __init__(self):
        global SCALE
        SCALE = 2.0

    def __getitem__(self, index):
        return torch.tensor([index * SCALE])


class Stream(IterableDataset):
    """Healthy: sharded."""

    def __iter__(self):
        info = get_worker_info()
        return iter(torch.arange(200)[info.id :: info.num_workers] if info else torch.arange(200))


class EpochStream(IterableDataset):
    """Fault with persistent workers: a stream whose epoch is a plain member."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        info = get_worker_info()
        order = torch.randperm(200, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order[info.id :: info.num_workers] if info else order)


class TwoShards(IterableDataset):
    """Two shards: a third worker gets nothing."""

    def __iter__(self):
        info = get_worker_info()
        shards = [range(500), range(500, 1000)]
        for shard in shards[info.id :: info.num_workers] if info else shards:
            for number in shard:
                time.sleep(0.002)
                yield torch.tensor(number)


class OnlySome(Base):
    def __getitem__(self, index):
        if not 100 <= index < 200:
            raise FileNotFoundError(index)
        return torch.tensor(index)


def subset_sampler():
    """Healthy: the sampler never asks for the items that do not load."""
    return DataLoader(OnlySome(), batch_size=8, sampler=SubsetRandomSampler(range(100, 200)))


class Sized(Base):
    def __getitem__(self, key):
        index, side = key
        return torch.full((side, side), float(index))


class Pairs:
    def __iter__(self):
        for start in range(0, 80, 8):
            yield [(n, 4 if start % 16 else 6) for n in range(start, start + 8)]

    def __len__(self):
        return 10


def batches_of_pairs():
    """Healthy: the batch sampler yields pairs, and only whole batches collate."""
    return DataLoader(Sized(), batch_sampler=Pairs())


class Whole(Base):
    def __getitem__(self, keys):
        assert isinstance(keys, list)
        return torch.tensor(keys)


def whole_batches():
    """Healthy: batch_size=None, keys are whole batches."""
    return DataLoader(Whole(), batch_size=None, sampler=BatchSampler(range(80), 8, drop_last=False))
