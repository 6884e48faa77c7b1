"""Pairs of data sets: `<Name>Fault` has a fault, `<Name>Fixed` is the same with the printed fix applied."""

# ruff: noqa: SIM115, PLW0603 - open files and late module variables are the specimens

from __future__ import annotations

import asyncio
import atexit
import collections
import functools
import io
import itertools
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import torch
from judgment import OwnGenerator
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, get_worker_info

NUM = 200
STREAM = 60  # short enough to be read whole on a busy machine
LATE = 1


class Base(Dataset):
    def __len__(self):
        return NUM

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class CounterFault(Base):
    def __init__(self):
        self.count = 0

    def __getitem__(self, index):
        self.count += 1
        return torch.tensor([index, self.count])


class CounterFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, index + 1])


class InPlaceFault(Base):
    def __init__(self):
        self.images = torch.zeros(NUM, 4)

    def __getitem__(self, index):
        self.images[index] += 1
        return self.images[index].clone()


class InPlaceFixed(InPlaceFault):
    def __getitem__(self, index):
        return self.images[index].clone() + 1


class MappedFault(Base):
    """Normalised where it is kept, and that is a file."""

    def __init__(self):
        self.images = np.memmap(Path(tempfile.mkdtemp(), "x"), np.float32, "w+", shape=(NUM, 4))
        self.images[:] = 1

    def __getitem__(self, index):
        image = self.images[index]
        image *= 0.5
        return torch.from_numpy(image.copy())


class MappedFixed(MappedFault):
    def __getitem__(self, index):
        return torch.from_numpy(self.images[index].copy() * 0.5)


class WorkListFault(Base):
    def __init__(self):
        self.todo = list(range(100_000))

    def __getitem__(self, index):
        return torch.tensor([self.todo.pop()])


WorkListFixed = Base


class TargetsFault(Base):
    """Annotations that are scaled where they are kept, an entry for each item."""

    def __init__(self):
        self.targets = [{"boxes": np.ones(4, np.float32), "type": np.ndarray} for _ in range(NUM)]

    def __getitem__(self, index):
        boxes = self.targets[index]["boxes"]
        boxes *= 0.5
        return torch.from_numpy(boxes.copy())


class TargetsFixed(TargetsFault):
    def __getitem__(self, index):
        return torch.from_numpy(self.targets[index]["boxes"].copy() * 0.5)


class PreviousFault(Base):
    def __init__(self):
        self.last = None

    def __getitem__(self, index):
        last, self.last = self.last, index
        return torch.tensor([index, -1 if last is None else last])


class PreviousFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, index - 1])


class GrowthFault(Base):
    def __init__(self):
        self.seen = []

    def __getitem__(self, index):
        self.seen.append(index)
        return torch.tensor([index])


class GrowthFixed(GrowthFault):
    def __init__(self):
        self.seen = collections.deque(maxlen=4)


class CacheFault(Base):
    """A cache without bound, of a size that no machine holds."""

    def __init__(self):
        self.kept = {}

    def __len__(self):
        return 10**6

    def load(self, index):
        return torch.zeros(1000) + index

    def __getitem__(self, index):
        if index not in self.kept:
            self.kept[index] = self.load(index)
        return self.kept[index]


class CacheFixed(CacheFault):
    def __init__(self):
        self.load = functools.lru_cache(maxsize=8)(super().load)

    def __getitem__(self, index):
        return self.load(index)


class ThreadsLeftFault(Base):
    def __init__(self):
        self.is_over = threading.Event()

    def start(self):
        thread = threading.Thread(target=self.is_over.wait, args=(5,), daemon=True)
        thread.start()
        return thread

    def __getitem__(self, index):
        self.start()
        return torch.tensor([index])


class ThreadsLeftFixed(ThreadsLeftFault):
    def __getitem__(self, index):
        thread = self.start()
        self.is_over.set()
        thread.join()
        return torch.tensor([index])


class SharedMemoryFault(Base):
    def __getitem__(self, index):
        block = shared_memory.SharedMemory(create=True, size=64)
        block.close()
        return self.done(block, index)

    def done(self, block, index):
        return torch.tensor([index])


class SharedMemoryFixed(SharedMemoryFault):
    def done(self, block, index):
        block.unlink()
        return torch.tensor([index])


class FilesFault(Base):
    def __init__(self):
        self.folder = tempfile.mkdtemp()

    def __getitem__(self, index):
        file, _ = tempfile.mkstemp(dir=self.folder)
        os.write(file, bytes(1000))
        os.close(file)
        return torch.tensor([index])


class FilesFixed(FilesFault):
    def __getitem__(self, index):
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.write(bytes(1000))
        return torch.tensor([index])


class OneFileFault(Base):
    def __init__(self):
        self.folder = tempfile.mkdtemp()

    def __getitem__(self, index):
        Path(self.folder, "last.txt").write_text(str(index))
        return torch.tensor([index])


class OneFileFixed(OneFileFault):
    def __getitem__(self, index):
        return torch.tensor([index])


class SharedFileFault(Base):
    """Statistics that whoever comes first computes and stores."""

    def __init__(self):
        self.file = Path(tempfile.mkdtemp(), "mean.npy")

    def __getitem__(self, index):
        if not self.file.exists():
            self.make()
        return torch.from_numpy(np.load(self.file)) + index

    def make(self):
        np.save(self.file, np.ones(4))


class SharedFileFixed(SharedFileFault):
    def make(self):
        part = self.file.with_suffix(f".{os.getpid()}.npy")
        np.save(part, np.ones(4))
        os.replace(part, self.file)


class DescriptorsFault(Base):
    def __init__(self):
        self.kept = []

    def __getitem__(self, index):
        self.kept.append(open(__file__, "rb"))
        return torch.tensor([index])


class DescriptorsFixed(Base):
    def __getitem__(self, index):
        with open(__file__, "rb") as file:
            file.read(1)
        return torch.tensor([index])


class BufferFault(Base):
    def __init__(self):
        self.buffer = np.zeros(4, np.float32)

    def __getitem__(self, index):
        self.buffer[:] = index
        return torch.from_numpy(self.buffer)


class BufferFixed(BufferFault):
    def __getitem__(self, index):
        self.buffer[:] = index
        return torch.from_numpy(self.buffer.copy())


class NoneFault(Base):
    def __getitem__(self, index):
        return torch.tensor([index]) if index else None


class NoneFixed(Base):
    pass


class SampleFault(Base):
    def __getitem__(self, index):
        if index == 0:
            raise ValueError("cut off")
        return torch.tensor([index])


def SampleFixed():
    return Subset(SampleFault(), range(1, NUM))


class StopFault(Base):
    def rest(self, index):
        return iter(range(index, NUM - 1))

    def __getitem__(self, index):
        return torch.tensor([next(self.rest(index))])


class StopFixed(StopFault):
    def __getitem__(self, index):
        return torch.tensor([next(self.rest(index), -1)])


class MemmapFault(Base):
    def __init__(self):
        self.path = Path(tempfile.mkdtemp()) / "rows.npy"
        np.save(self.path, np.zeros((NUM, 1000), np.float32))
        self.rows = np.load(self.path, mmap_mode="r")

    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index].copy())


class MemmapFixed(MemmapFault):
    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.path = state["path"]
        self.rows = np.load(self.path, mmap_mode="r")


class RemovingFault(Base):
    def __init__(self):
        self.folder, self.owner = tempfile.mkdtemp(), os.getpid()

    def __del__(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class RemovingFixed(RemovingFault):
    def __del__(self):
        if os.getpid() == self.owner:
            shutil.rmtree(self.folder, ignore_errors=True)


class ThreadFault(Base):
    def __init__(self):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()


class ThreadFixed(Base):
    def __init__(self):
        self.thread = None

    def __getitem__(self, index):
        if self.thread is None:
            self.thread = threading.Thread(target=time.sleep, args=(5,), daemon=True)
            self.thread.start()
        return torch.tensor([index])


OwnStateFault = OwnGenerator


class OwnStateFixed(Base):
    state = 0

    def __getitem__(self, index):
        if not self.state:
            self.state = torch.initial_seed() % 1000 + 1
        self.state = self.state * 6364136223846793005 % (1 << 62)
        return torch.tensor([index, self.state % 1000])


class ClockFault(Base):
    def __getitem__(self, index):
        return torch.tensor([random.Random(int(time.time())).randrange(1 << 30)])


class ClockFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([random.randrange(1 << 30)])


class SqliteFault(Base):
    def __init__(self):
        self.path = str(Path(tempfile.mkdtemp()) / "rows.db")
        self.rows = sqlite3.connect(self.path, check_same_thread=False)

    def __getitem__(self, index):
        return torch.tensor(self.rows.execute("select ?", (index,)).fetchone())


class SqliteFixed(SqliteFault):
    def __init__(self):
        super().__init__()
        self.rows.close()
        self.rows, self.owner = None, 0

    def __getitem__(self, index):
        if self.owner != os.getpid():
            self.rows, self.owner = sqlite3.connect(self.path), os.getpid()
        return super().__getitem__(index)


class PipeFault(Base):
    def __init__(self):
        self.helper = self.start()

    def start(self):
        code = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-S", "-E", "-c", code], bufsize=0, **pipes)

    def __getitem__(self, index):
        self.helper.stdin.write(b"%03d\n" % index)
        return torch.tensor(int(self.helper.stdout.read(4)))


class PipeFixed(PipeFault):
    def __init__(self):
        self.helper, self.owner = None, 0

    def __getitem__(self, index):
        if self.owner != os.getpid():
            self.helper, self.owner = self.start(), os.getpid()
        return super().__getitem__(index)


class LoopFault(Base):
    def __init__(self):
        self.loop = asyncio.new_event_loop()

    async def load(self, index):
        await asyncio.sleep(0)
        return torch.tensor([index])

    def __getitem__(self, index):
        return self.loop.run_until_complete(self.load(index))


class LoopFixed(LoopFault):
    def __init__(self):
        self.loop, self.owner = None, 0

    def __getitem__(self, index):
        if self.owner != os.getpid():
            self.loop, self.owner = asyncio.new_event_loop(), os.getpid()
        return super().__getitem__(index)


class PoolFault(Base):
    def __getitem__(self, index):
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(1) as pool:
            return torch.tensor(pool.map(abs, [index]))


class PoolFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([abs(index)])


class SpentStreamFault(IterableDataset):
    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        if self.position > STREAM:
            raise StopIteration
        return self.position


class SpentStreamFixed(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        yield from range(info.id if info else 0, STREAM, info.num_workers if info else 1)


class LossyStreamFault(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        return iter(range(STREAM) if info is None else range(info.id, STREAM, info.num_workers + 1))


LossyStreamFixed = SpentStreamFixed


class LengthFault(SpentStreamFixed):
    def __len__(self):
        return 10


class LengthFixed(SpentStreamFixed):
    def __len__(self):
        return STREAM


class PidFault(Base):
    def __getitem__(self, index):
        return torch.tensor(os.getpid() if index == 5 else index)


PidFixed = Base


class OrdersFault(IterableDataset):
    """Each worker shuffles the parts by itself, and takes every n-th of its own order."""

    def parts(self):
        return torch.randperm(STREAM)

    def __iter__(self):
        info, parts = get_worker_info(), self.parts()
        return iter(parts if info is None else parts[info.id :: info.num_workers])


class OrdersFixed(OrdersFault):
    def parts(self):
        return torch.randperm(STREAM, generator=torch.Generator().manual_seed(0))


class Dropping(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        at = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(torch.arange(STREAM)[at[0] :: at[1]])


def DroppedFault():
    return DataLoader(Dropping(), batch_size=16, num_workers=4, drop_last=True)


def DroppedFixed():
    return DataLoader(Dropping(), batch_size=16, num_workers=4, drop_last=False)


class ClosureFault(Base):
    def __init__(self):
        generator = np.random.default_rng(0)
        self.draw = lambda: generator.integers(1 << 30)

    def __getitem__(self, index):
        return torch.tensor([index, int(self.draw())])


class ClosureFixed(Base):
    def __getitem__(self, index):
        if not hasattr(self, "random"):
            self.random = np.random.default_rng(torch.initial_seed())
        return torch.tensor([index, int(self.random.integers(1 << 30))])


class AttributeFault(Base):
    def __getitem__(self, index):
        image = torch.tensor([float(index)])
        image.meta = {"index": index}  # type: ignore[attr-defined]
        return image


class AttributeFixed(Base):
    def __getitem__(self, index):
        return {"image": torch.tensor([float(index)]), "meta": {"index": index}}


def as_they_are(items):
    return items


def AttributesFault():
    return AttributeFault(), {"collate_fn": as_they_are}


def AttributesFixed():
    return AttributeFixed(), {"collate_fn": as_they_are}


class FreshFixed(Base):
    """What a fresh process lacks, mended in the three printed ways at once."""

    def __init__(self):
        global LATE
        LATE = 2
        self.late = LATE  # an attribute in place of the variable
        self.names = sorted({f"name{n}" for n in range(NUM)})  # sorted in place of the order of a set

    def __getitem__(self, index):
        return torch.tensor([index * self.late, int(self.names[index][4:]), np.geterr()["over"] == "ignore"])


def set_flags(worker_id=0):
    np.seterr(over="ignore")


def fresh():
    set_flags()
    return FreshFixed(), {"worker_init_fn": set_flags}


class _Slow(Base):
    def __getitem__(self, index):
        time.sleep(0.02)
        return torch.tensor([index])


def TimeoutFault():
    return DataLoader(_Slow(), batch_size=8, num_workers=1, timeout=0.05)


def TimeoutFixed():
    return DataLoader(_Slow(), batch_size=8, num_workers=1, timeout=60)


class QuantizedFault(Base):
    def __getitem__(self, index):
        warnings.simplefilter("ignore")  # torch has deprecated them
        return torch.quantize_per_tensor(torch.full((3,), float(index % 9)), 1.0, 0, torch.qint8)


class QuantizedFixed(QuantizedFault):
    def __getitem__(self, index):
        return super().__getitem__(index).int_repr()


class KeysFault(Base):
    """The rows are found by the id() of a name, which a spawned worker's copy does not have."""

    def __init__(self):
        self.names = [(f"name{n}",) for n in range(NUM)]
        self.rows = {self.key(n): n for n in range(NUM)}

    def key(self, index):
        return id(self.names[index])

    def __getitem__(self, index):
        return torch.tensor(self.rows[self.key(index)])


class KeysFixed(KeysFault):
    def key(self, index):
        return self.names[index]


MISSING = object()


class SentinelFault(Base):
    missing = MISSING

    def __init__(self):
        self.values = [self.missing if n % 2 else n for n in range(NUM)]

    def __getitem__(self, index):
        return torch.tensor(-1 if self.values[index] is self.missing else 1)


class SentinelFixed(SentinelFault):
    missing = None


class HashFault(Base):
    def __getitem__(self, index):
        return torch.tensor(hash(f"name{index}"))


class HashFixed(Base):
    def __getitem__(self, index):
        return torch.tensor(zlib.crc32(f"name{index}".encode()))


class InterruptFault(Base):
    error: type[BaseException] = KeyboardInterrupt

    def __getitem__(self, index):
        if index == 5 and get_worker_info() is not None:
            raise self.error
        return torch.tensor([index])


class InterruptFixed(Base):
    def __getitem__(self, index):
        if index == NUM:
            raise RuntimeError
        return torch.tensor([index])


class _Library:
    """As a library that remembers where it was made, and says so."""

    words = "this client is not fork-safe"

    def __init__(self):
        self.owner = os.getpid()

    def __reduce__(self):
        return type(self), ()  # what is sent connects again

    def load(self, index):
        if self.owner != os.getpid():
            raise RuntimeError(self.words)
        return torch.tensor([index])


class _Mute(_Library):
    words = "bad state"


class ForkUnsafeFault(Base):
    library: type[_Library] = _Library

    def __init__(self):
        self.client = self.library()

    def __getitem__(self, index):
        return self.client.load(index)


class ForkUnsafeFixed(ForkUnsafeFault):
    def __init__(self):
        self.client, self.owner = None, 0

    def __getitem__(self, index):
        if self.owner != os.getpid():
            self.client, self.owner = self.library(), os.getpid()
        return super().__getitem__(index)


class InheritedFault(ForkUnsafeFault):
    library = _Mute


class InheritedFixed(ForkUnsafeFixed):
    library = _Mute


def Forkserver():
    return DataLoader(ForkUnsafeFault(), num_workers=2, multiprocessing_context="forkserver")


class InWorkerFault(Base):
    def __getitem__(self, index):
        return torch.tensor([index, get_worker_info() is not None])


class InWorkerFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, index])


class ShardsFault(IterableDataset):
    """Two shards, and an error where there are more workers."""

    shards, most = 2, 1

    def __iter__(self):
        info = get_worker_info()
        if info is not None and info.num_workers > self.most:
            raise ValueError(f"{self.most} shards for {info.num_workers} workers")
        yield from range(info.id if info else 0, STREAM, info.num_workers if info else 1)


class ShardsFixed(ShardsFault):
    most = 2


class UnsendableFault(Base):
    def __getitem__(self, index):
        return {"row": torch.tensor(index), "read": lambda: index}


class UnsendableFixed(Base):
    def __getitem__(self, index):
        return {"row": torch.tensor(index)}


class SpentFault(Base):
    """As `next(self.rows)` of an iterator whose copy in the worker is spent."""

    def __getitem__(self, index):
        if get_worker_info() is not None and index % 7 == 3:
            raise StopIteration
        return torch.tensor([index])


class SpentFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, index >= 0])


class NoLengthFault:
    def __iter__(self):
        return iter(range(STREAM))


class NoLengthFixed(SpentStreamFixed):
    pass


class WorkerSeedFault(Base):
    """With a worker_init_fn that seeds every worker alike."""

    def __getitem__(self, index):
        return torch.tensor([index, random.randrange(1 << 30)])


def seed_alike(worker_id):
    random.seed(42)


def seed_apart(worker_id):
    random.seed(torch.initial_seed())


def InitFault():
    return DataLoader(WorkerSeedFault(), num_workers=2, worker_init_fn=seed_alike)


def InitFixed():
    return DataLoader(WorkerSeedFault(), num_workers=2, worker_init_fn=seed_apart)


class MeanFault(Base):
    """Items depend on two members that change together; neither alone explains it."""

    def __init__(self):
        self.count, self.mean = 0, 0.0

    def __getitem__(self, index):
        self.count += 1
        self.mean += (index - self.mean) / self.count
        return torch.tensor([index - self.mean])


class MeanFixed(Base):
    mean = (NUM - 1) / 2

    def __getitem__(self, index):
        return torch.tensor([index - self.mean])


class RollingFault(Base):
    def __init__(self):
        self.rows = collections.deque(range(100), maxlen=100)

    def __getitem__(self, index):
        self.rows.append(index)
        return torch.tensor([index, self.rows[0]])


class RollingFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, max(0, index - 100)])


class CycleFault(Base):
    def __init__(self):
        self.backgrounds = itertools.cycle(range(7))

    def __getitem__(self, index):
        return torch.tensor([index, next(self.backgrounds)])


class CycleFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, index % 7])


class DefaultFault(Base):
    def __getitem__(self, index, seen=[]):  # noqa: B006 - the specimen
        seen.append(index)
        return torch.tensor([index])


class DefaultFixed(Base):
    def __getitem__(self, index, seen=()):
        return torch.tensor([index])


def number_of(index):
    number_of.calls += 1  # type: ignore[attr-defined]
    return number_of.calls  # type: ignore[attr-defined]


number_of.calls = 0  # type: ignore[attr-defined]


class FunctionFault(Base):
    def __getitem__(self, index):
        return torch.tensor([index, number_of(index)])


class FunctionFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index, index + 1])


class FilledFault(Base):
    """A list of None that is filled: all of it is more than a machine holds."""

    def __init__(self):
        self.rows = [None] * len(self)

    def __len__(self):
        return 150_000

    def __getitem__(self, index):
        if self.rows[index] is None:
            self.rows[index] = torch.zeros(1 << 19)
        return self.rows[index][:1] + index


class FilledFixed(FilledFault):
    def __init__(self):
        self.rows = torch.zeros(len(self), 1).share_memory_()

    def __getitem__(self, index):
        return self.rows[index] + index


class RestFault(IterableDataset):
    """Equal shares, and what is left over is in none."""

    length = 8 * STREAM - 1

    def __iter__(self):
        info = get_worker_info()
        share = self.length // (info.num_workers if info else 1)
        begin = info.id * share if info else 0
        return iter(range(begin, begin + share))


class RestFixed(RestFault):
    def __iter__(self):
        info = get_worker_info()
        return itertools.islice(
            range(self.length), info.id if info else 0, None, info.num_workers if info else 1
        )


class ExitFault(Base):
    def __getitem__(self, index):
        if index == 5 and get_worker_info() is not None:
            os._exit(4)
        return torch.tensor([index])


class ExitFixed(Base):
    def __getitem__(self, index):
        return torch.tensor([index])


class Handled(Base):
    """Items read through a handle of some kind: opened with the data set, or, as the fix says, at first use.

    Args:
        kind: Of `HANDLES`.
        is_fixed: Open at first use, in each process.
    """

    def __init__(self, kind, *, is_fixed):
        self.kind, self.is_fixed, self.owner = kind, is_fixed, 0
        self.path = str(Path(tempfile.mkdtemp(), "rows"))
        HANDLES[kind].write(self.path)
        self.handle = None if is_fixed else HANDLES[kind].open(self.path)

    def __getitem__(self, index):
        if self.is_fixed and self.owner != os.getpid():
            self.handle, self.owner = HANDLES[self.kind].open(self.path), os.getpid()
        return torch.tensor([int(HANDLES[self.kind].read(self.handle, index))])


@dataclass(frozen=True)
class Kind:
    """How rows are written, opened and read."""

    write: Callable
    open: Callable
    read: Callable


def write_rows(path):
    Path(path).write_bytes(b"".join(b"%04d\n" % number for number in range(NUM)))


def write_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(NUM):
            archive.writestr(str(number), str(number))


def write_tar(path):
    with tarfile.open(path, "w") as archive:
        for number in range(NUM):
            content = str(number).encode()
            member = tarfile.TarInfo(str(number))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_npz(path):
    with open(path, "wb") as file:
        np.savez(file, **{str(number): np.array([number]) for number in range(NUM)})


def write_h5(path):
    import h5py

    with h5py.File(path, "w") as file:
        file["rows"] = np.arange(NUM)


def write_lmdb(path):
    import lmdb

    with lmdb.open(path) as environment, environment.begin(write=True) as transaction:
        for number in range(NUM):
            transaction.put(str(number).encode(), str(number).encode())


def serve(path):
    """Start a process that answers with what it is sent, and write its port to a file."""
    code = (
        "import socketserver\n"
        "class Echo(socketserver.StreamRequestHandler):\n"
        "    def handle(self):\n"
        "        for line in self.rfile: self.wfile.write(line)\n"
        "server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), Echo)\n"
        "server.daemon_threads = True\n"
        f"open({path + '.part'!r}, 'w').write(str(server.server_address[1]))\n"
        f"import os; os.rename({path + '.part'!r}, {path!r})\n"
        "server.serve_forever()"
    )
    server = subprocess.Popen([sys.executable, "-S", "-E", "-c", code])
    atexit.register(server.kill)
    while not Path(path).exists():
        time.sleep(0.01)


def read_file(file, index):
    file.seek(5 * index)
    return file.read(4)


def read_descriptor(descriptor, index):
    os.lseek(descriptor, 5 * index, os.SEEK_SET)
    return os.read(descriptor, 4)


def open_h5(path):
    import h5py

    return h5py.File(path, "r")


def open_lmdb(path):
    import lmdb

    return lmdb.open(path, readonly=True, lock=False)


def read_lmdb(environment, index):
    with environment.begin() as transaction:
        return transaction.get(str(index).encode())


def open_duckdb(path):
    import duckdb

    del path
    return duckdb.connect()


def connect(path):
    return socket.create_connection(("127.0.0.1", int(Path(path).read_text(encoding="ascii"))))


def ask(connection, index):
    connection.sendall(b"%04d\n" % index)
    return connection.recv(5, socket.MSG_WAITALL)


HANDLES = {
    "file": Kind(write_rows, lambda path: open(path, "rb", buffering=0), read_file),
    "descriptor": Kind(write_rows, lambda path: os.open(path, os.O_RDONLY), read_descriptor),
    "zip": Kind(write_zip, zipfile.ZipFile, lambda rows, index: rows.read(str(index))),
    "tar": Kind(write_tar, tarfile.open, lambda rows, index: rows.extractfile(str(index)).read()),
    "npz": Kind(write_npz, np.load, lambda rows, index: rows[str(index)][0]),
    "h5py": Kind(write_h5, open_h5, lambda file, index: file["rows"][index]),
    "lmdb": Kind(write_lmdb, open_lmdb, read_lmdb),
    "duckdb": Kind(
        lambda path: None, open_duckdb, lambda rows, index: rows.execute(f"select {index}").fetchone()[0]
    ),
    "socket": Kind(serve, connect, ask),
}


def handled(kind):
    return [functools.partial(Handled, kind, is_fixed=is_fixed) for is_fixed in (False, True)]


(FileFault, FileFixed), (DescriptorFault, DescriptorFixed) = handled("file"), handled("descriptor")
(ZipFault, ZipFixed), (TarFault, TarFixed) = handled("zip"), handled("tar")
(NpzFault, NpzFixed), (SocketFault, SocketFixed) = handled("npz"), handled("socket")
(H5Fault, H5Fixed), (LmdbFault, LmdbFixed) = handled("h5py"), handled("lmdb")
DuckdbFault, DuckdbFixed = handled("duckdb")
